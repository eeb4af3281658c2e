"""AlignedClient: `AsyncLLM`, whose `generate` runs a strategy for the requests that ask for one."""

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rsalign.aligner.batch import law
from rsalign.aligner.inputs import Refused, Request, prompts, request
from rsalign.aligner.request_outputs import without_presentation
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.key import Key
from rsalign.core.protocols import Policy, Reward
from rsalign.core.types import Prompt
from rsalign.engines.options import RequestOptions
from rsalign.engines.vllm.asynchronous import AsyncEngine
from rsalign.engines.vllm.openai_app import AsyncLLM, EngineClient, VLLMValidationError
from rsalign.hooks.shared.admission import check_hooks
from rsalign.policies.vllm import VllmPolicy
from rsalign.serve.current import current
from rsalign.serve.failures import as_vllm
from rsalign.serve.job import Job, OnTokens
from rsalign.serve.limits import Admission
from rsalign.serve.observe import Observer
from rsalign.serve.request import Ledger, Menu, Wanted, share
from rsalign.serve.request_engine import RequestEngine
from rsalign.strategies.plain import Plain
from rsalign.words.fields import TABLES, Fate, refuse
from rsalign.words.messages import clip
from rsalign.words.read import STRATEGY, read_flat
from rsalign.words.request import one_seed, refuse_others, without_strategy

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

_DEFAULTS: Mapping[str, Any] = {"priority": 0}
"""Of the arguments of `AsyncLLM.generate`, if not None."""
_MARKS = ("type", "arrival_time")
"""What vLLM's renderer writes on a prompt."""
_SEED_BITS = 63


class AlignedClient:
    """Everything but `generate` and `abort` is the engine's own, and so are these for its requests.

    A request asks for a strategy in the `extra_args` of its `SamplingParams`, as
    `rsalign.words.read` says; one that asks for none has the server's default, if there is one,
    and otherwise goes to the engine as it came.

    Args:
        engine: runs on; it is used on the event loop that it lives on.
        reward: judges; None: only strategies that need none can be asked for.
        menu: what requests may ask for.
        admission: how many answers may be under way.
        observer: told what happens.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        reward: Reward | None = None,
        *,
        menu: Menu | None = None,
        admission: Admission | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._inner = engine
        self._reward = reward
        self.menu = menu or Menu(has_reward=reward is not None)
        self._admission = admission or Admission()
        self._observer = observer or Observer()
        self._engine = AsyncEngine(engine)
        self._policy = VllmPolicy(self._engine)
        self._open: dict[str, set[Job]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def generate(
        self, prompt: Any, sampling_params: "SamplingParams", request_id: str, **options: Any
    ) -> AsyncGenerator["RequestOutput", None]:
        """As `AsyncLLM.generate`; what cannot be honoured is refused by this call itself.

        The last output of a strategy's answers has two attributes more than vLLM's: ``alignment``,
        and each completion, where it ends, ``reward`` (see `rsalign.aligner.outputs`).

        Args:
            prompt: as vLLM takes it; a strategy answers text and token ids only.
            sampling_params: the law, the length and the number of answers; a strategy honours what
                `Aligner.generate` does.
            request_id: what `abort` calls it.
            options: as vLLM's.

        Raises:
            VLLMValidationError: if it asks for what there is not, or what cannot be honoured.
        """
        extra_args = sampling_params.extra_args or {}
        given = extra_args.get(STRATEGY)
        read = current()
        try:
            wanted = self.menu.order(read_flat(extra_args)) if read is None else read[0]
            if wanted is not None:
                return self._answers(
                    self._job(wanted, prompt, sampling_params, request_id, options)
                )
            if given is not None:  # it says "none", which the engine need not know
                sampling_params = sampling_params.clone()
                sampling_params.extra_args = without_strategy(extra_args)
            if extra_args:
                check_hooks(sampling_params, self._inner.vllm_config)
        except ConfigError as wrong:
            raise VLLMValidationError(clip(str(wrong)), parameter=STRATEGY) from None
        untouched: AsyncGenerator[RequestOutput, None] = self._inner.generate(
            prompt, sampling_params, request_id, **options
        )
        return untouched

    async def abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """As `AsyncLLM.abort`: the request ends with what was certain, and reason ``"abort"``."""
        ids = [request_id] if isinstance(request_id, str) else list(request_id)
        for job in [job for each in ids for job in self._open.get(each, ())]:
            job.abort()
        await self._inner.abort(ids, internal=internal)

    async def abort_all(self) -> None:
        """Ends all answers of strategies that are under way, as `abort` does."""
        for job in [job for jobs in self._open.values() for job in jobs]:
            job.abort()

    def close(self) -> None:
        """Forgets the engine, which runs on."""
        self._engine.close()

    def _job(
        self,
        wanted: Wanted,
        prompt: Any,
        params: "SamplingParams",
        request_id: str,
        options: Mapping[str, Any],
    ) -> Job:
        try:
            refuse(
                "AsyncLLM.generate",
                ((name, value, _DEFAULTS.get(name)) for name, value in options.items()),
            )
            plain = _plain(params, wanted)
            asked = request(
                self._prompt(prompt, wanted), plain, wanted.strategy, _carried(prompt, options)
            )
            budget = share(wanted.budget, asked.n * wanted.num_prompts)
            lawful = law(self._policy, asked, budget)
            assert isinstance(lawful, VllmPolicy)  # ours, under another law
        except ConfigError as wrong:
            # who is refused may not have asked for a strategy
            raise ConfigError(f"{wrong}{self.menu.way_out}") from None
        # one draw is its answer whatever its probability
        tells = asked.shown is not None or type(wanted.strategy) is not Plain

        def policy(on_tokens: OnTokens | None, trace_headers: Mapping[str, str]) -> Policy:
            view = RequestEngine(self._engine, on_tokens, tells)
            traced = RequestOptions(trace_headers=trace_headers or None)
            return replace(lawful, engine=view).with_options(traced)

        place, number = wanted.ledger.expected, wanted.ledger.num_prompts
        wanted.ledger.num_prompts += 1
        wanted.ledger.expected += asked.n
        return Job(
            request_id=request_id,
            wanted=replace(wanted, budget=budget),
            asked=asked,
            params=params,
            text=prompt.get("prompt") if isinstance(prompt, Mapping) else None,
            tokenizer=self._engine.tokenizer,
            policy=policy,
            reward=self._reward,
            key=_key(wanted.ledger, asked, number),
            place=place,
            trace_headers=options.get("trace_headers") or {},
        )

    def _prompt(self, given: Any, wanted: Wanted) -> Prompt:
        if not isinstance(given, str | Mapping):
            raise ConfigError(
                f"a strategy cannot answer a {type(given).__name__}: give text or token ids"
            )
        item: Any = given
        if isinstance(given, Mapping):
            if given.get("type", "token") != "token":
                raise ConfigError(
                    f"a strategy answers text and token ids, and this prompt is {given['type']}"
                )
            item = {name: value for name, value in given.items() if value and name not in _MARKS}
            number = wanted.ledger.num_prompts
            if number < len(wanted.conversations):
                item["messages"] = wanted.conversations[number]
        (found,) = prompts(item, self._policy)
        if isinstance(found, Refused):
            raise found.error
        return found

    async def _answers(self, job: Job) -> AsyncGenerator["RequestOutput", None]:
        ledger = job.wanted.ledger
        headers, begun = job.trace_headers, False
        started = time.perf_counter()
        self._open.setdefault(job.request_id, set()).add(job)
        try:
            with (
                self._admission.admitted(job.asked.n),
                self._observer.observed(job.wanted.name, job.request_id, headers) as observed,
            ):
                async with contextlib.aclosing(job.outputs(observed)) as outputs:
                    async for each in outputs:
                        ledger.seconds = time.perf_counter() - started
                        begun = True
                        yield each
        except RsalignError as error:
            ledger.failure = as_vllm(error)
            if ledger.watched and not begun:
                return  # vLLM would log a stack for what has an answer of its own
            raise ledger.failure from None
        finally:
            self._open[job.request_id].discard(job)
            if not self._open[job.request_id]:
                del self._open[job.request_id]


EngineClient.register(AlignedClient)


def _key(ledger: Ledger, asked: Request, number: int) -> Key:
    """The address of a prompt: as `Aligner.generate` with this seed has it, by its number.

    The prompts of one HTTP request share a seed, also where that is drawn here, so that a request
    with the seed that is reported has the same answers.
    """
    if asked.seed is not None:
        ledger.seed = asked.seed
    elif ledger.seed is None:
        ledger.seed = secrets.randbits(_SEED_BITS)
    return Key(ledger.seed).child("prompt", number)


def _carried(prompt: Any, options: Mapping[str, Any]) -> RequestOptions:
    """What goes with each request to the engine, of what came with this one."""
    carried = {
        name: value
        for name, value in options.items()
        if value is not None and TABLES["AsyncLLM.generate"][name].fate is Fate.ENGINE
    }
    salt = prompt.get("cache_salt") if isinstance(prompt, Mapping) else None
    return RequestOptions(**carried, cache_salt=salt or "")


def _plain(params: "SamplingParams", wanted: Wanted) -> "SamplingParams":
    """Parameters as `Aligner` takes them.

    Raises:
        ConfigError: if more is to be shown of an answer than can be.
    """
    from vllm.sampling_params import RequestOutputKind

    refuse_others(params.extra_args)
    listed = params.logprobs is not None or params.logprob_token_ids
    if listed and params.output_kind != RequestOutputKind.FINAL_ONLY:
        raise ConfigError(
            "logprobs of an answer by a strategy cannot be streamed: leave out logprobs, or stream"
        )
    plain = without_presentation(params)
    plain.skip_clone = False  # vLLM's servers set it
    if plain.max_tokens is not None and wanted.max_tokens is not None:
        plain.max_tokens = min(plain.max_tokens, wanted.max_tokens)
    plain.seed = one_seed(plain.seed, wanted.seed)
    return plain
