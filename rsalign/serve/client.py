"""AlignedClient: an `AsyncLLM` that answers requests by strategies."""

import contextlib
import math
import secrets
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from rsalign.aligner.prompts import read_prompt
from rsalign.aligner.request_outputs import without_presentation
from rsalign.aligner.requests import Request, make_request
from rsalign.core.answer import prompt_key
from rsalign.core.capabilities import answers_in_one_draw, parallel_draws
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.segment_ends import check_boundaries
from rsalign.core.text.chat_options import ChatOptions
from rsalign.core.types import Prompt
from rsalign.engines.options import RequestOptions
from rsalign.engines.vllm.asynchronous import AsyncEngine
from rsalign.engines.vllm.openai_app import AsyncLLM, EngineClient, VLLMValidationError
from rsalign.hooks.shared.admission import check_hooks
from rsalign.policies.vllm import VllmPolicy
from rsalign.serve.admission import Admission, BusyError
from rsalign.serve.draw_window import DrawWindow
from rsalign.serve.errors import as_vllm_error
from rsalign.serve.guarded_reward import GuardedReward
from rsalign.serve.observe import Observer
from rsalign.serve.prompt_job import OnTokens, PromptJob
from rsalign.serve.request_engine import RequestEngine
from rsalign.serve.rules import RequestRules, StrategyRequest, split_budget
from rsalign.serve.served_request import ServedRequest, current_request, was_handled
from rsalign.words.fields import TABLES, Fate, refuse
from rsalign.words.messages import clip
from rsalign.words.named_parts import PartLike, read_part_words, start_parts
from rsalign.words.read import STRATEGY, read_flat
from rsalign.words.request import one_seed, refuse_others, without_strategy

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

_DEFAULTS: Mapping[str, Any] = {"priority": 0}
"""Defaults of the arguments of `AsyncLLM.generate` that are not None."""
_RENDERER_KEYS = ("type", "arrival_time")
"""Keys that vLLM's renderer adds to a prompt."""
_SEED_BITS = 63
_PART_LEFT_FREE = 2
"""One of so many of the engine's places is left to requests that draw once, unless told otherwise:
such a request may come at any time, and the engine starts it only if a place is free."""
_PART_BESIDE_OTHERS = 32
"""While such requests are answered, strategies have one of so many places: each draw makes them
slower."""
_PLAIN_SECONDS = 1.0
"""How long after such a request another is expected."""


class AlignedClient:
    """Delegates to an `AsyncLLM`; `generate` and `abort` are overridden for aligned requests.

    A request asks for a strategy in the `extra_args` of its `SamplingParams` (see
    `rsalign.words.read`). A request that asks for none is answered by the default strategy, if
    there is one, and by the engine itself otherwise.

    Args:
        engine: is left running on close; it is used on the event loop that it lives on.
        reward: judges; None: only strategies that need no reward can be asked for.
        rules: what requests may ask for.
        admission: what requests may be under way.
        window: how many draws of strategies the engine has open at once; sizes that are None become
            a quarter of what it computes at once, and a 32nd while it answers requests without a
            strategy.
        degrades: whether a request whose reward fails is answered by a plain draw, with a warning,
            if nothing of its answer has been sent.
        observer: is told what happens.
        parts: further models and judges that strategies need, by name, each an object or what names
            one, as `Aligner` takes them; `close` closes what was started for them.

    Example::

        client = AlignedClient(AsyncLLM.from_engine_args(...), reward)
        asked = SamplingParams(max_tokens=64, extra_args={"rsalign": "best_of", "rsalign_n": 8})
        async for output in client.generate("Why is the sky blue?", asked, "request-1"):
            print(output.outputs[0].text, output.outputs[0].reward)
    """

    def __init__(
        self,
        engine: AsyncLLM,
        reward: Reward | None = None,
        *,
        rules: RequestRules | None = None,
        admission: Admission | None = None,
        window: DrawWindow | None = None,
        degrades: bool = False,
        observer: Observer | None = None,
        parts: Mapping[str, PartLike] | None = None,
    ) -> None:
        self._inner = engine
        self.reward = _guard(reward)
        self.rules = rules or RequestRules(has_reward=reward is not None, parts=tuple(parts or ()))
        self.admission = admission or Admission()
        self.observer = observer or Observer()
        self._engine = AsyncEngine(engine)
        self.window = window or DrawWindow()
        self._last_plain = -math.inf
        self._fill_window()
        self._policy = VllmPolicy(self._engine)
        check_boundaries(self.rules.default, self._policy)
        self._parts = start_parts(
            read_part_words(parts), self.rules.default, lambda: VllmPolicy.adopt(engine)
        )
        self._degrades = degrades
        self._open: dict[str, set[PromptJob]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def generate(
        self, prompt: Any, sampling_params: "SamplingParams", request_id: str, **options: Any
    ) -> AsyncGenerator["RequestOutput", None]:
        """As `AsyncLLM.generate`; a request that cannot be honoured is refused by this call itself.

        The last output of an aligned request has an attribute ``alignment``, and each of its
        completions, when it ends, one ``reward`` (see `rsalign.aligner.outputs`).

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
        try:
            self.admission.check_open()
            served = self._read_request(extra_args)
            if served is not None:
                job = self._make_job(served, prompt, sampling_params, request_id, options)
                return self._answer(job)
            if extra_args.get(STRATEGY) is not None:  # "none", which the engine need not know
                sampling_params = sampling_params.clone()
                sampling_params.extra_args = without_strategy(extra_args)
            check_hooks(sampling_params, self._inner.vllm_config)
        except ConfigError as wrong:
            self.observer.count_refusal("invalid")
            raise VLLMValidationError(clip(str(wrong)), parameter=STRATEGY) from None
        except BusyError as busy:
            self.observer.count_refusal(busy.reason)
            raise as_vllm_error(busy) from None
        self._last_plain = time.monotonic()
        untouched: AsyncGenerator[RequestOutput, None] = self._inner.generate(
            prompt, sampling_params, request_id, **options
        )
        return untouched

    async def abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """As `AsyncLLM.abort`: answers end with what was certain, and finish reason ``"abort"``."""
        ids = [request_id] if isinstance(request_id, str) else list(request_id)
        for job in [job for each in ids for job in self._open.get(each, ())]:
            job.abort()
        await self._inner.abort(ids, internal=internal)

    async def abort_all(self) -> None:
        """Ends all aligned requests that are under way, as `abort` does."""
        for job in [job for jobs in self._open.values() for job in jobs]:
            job.abort()

    def expire_all(self) -> None:
        """Ends all aligned requests that are under way with their best answers so far."""
        for job in [job for jobs in self._open.values() for job in jobs]:
            job.expire()

    def close(self) -> None:
        """Releases the engine, which runs on, and closes parts that were started here."""
        self._parts.close()
        self._engine.close()

    def _read_request(self, extra_args: Mapping[str, Any]) -> ServedRequest | None:
        """The HTTP request under way; without a handler of ours, what `extra_args` ask for."""
        if was_handled():
            return current_request()
        asked = self.rules.read(read_flat(extra_args))
        return None if asked is None else ServedRequest(asked=asked)

    def _make_job(
        self,
        served: ServedRequest,
        prompt: Any,
        params: "SamplingParams",
        request_id: str,
        options: Mapping[str, Any],
    ) -> PromptJob:
        """One prompt of a request, checked.

        Raises:
            ConfigError: if something about it cannot be honoured.
        """
        try:
            refuse(
                "AsyncLLM.generate",
                ((name, value, _DEFAULTS.get(name)) for name, value in options.items()),
            )
            request = self._make_request(served, prompt, params, options)
        except ConfigError as wrong:
            raise ConfigError(f"{wrong}{self.rules.hint}") from None
        number, first_choice = served.begin_prompt(request.n)
        draws_once = answers_in_one_draw(served.asked.strategy)
        if draws_once:  # costs others what a request without a strategy does
            self._last_plain = time.monotonic()
        else:
            served.share = served.share or self.window.open_share()
        if served.seed is None or request.seed is not None:
            # the prompts of one HTTP request share a seed, also where it is drawn here, so that a
            # request with the seed that is reported has the same answers
            served.seed = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
        # where one draw is the answer, nobody needs its probability
        needs_log_probs = request.presentation is not None or not draws_once

        def watch(
            policy: Policy, on_tokens: OnTokens | None, trace_headers: Mapping[str, str]
        ) -> Policy:
            assert isinstance(policy, VllmPolicy)  # ours, under another law
            view = RequestEngine(self._engine, served.share, on_tokens, needs_log_probs)
            traced = RequestOptions(trace_headers=trace_headers or None)
            return replace(policy, engine=view).with_options(traced)

        return PromptJob(
            request_id=request_id,
            served=served,
            request=request,
            params=params,
            text=prompt.get("prompt") if isinstance(prompt, Mapping) else None,
            tokenizer=self._engine.tokenizer,
            watch=watch,
            reward=self.reward,
            parts=self._parts.parts,
            degrades=self._degrades,
            key=prompt_key(served.seed, number),
            first_choice=first_choice,
            trace_headers=options.get("trace_headers") or {},
        )

    def _make_request(
        self,
        served: ServedRequest,
        prompt: Any,
        params: "SamplingParams",
        options: Mapping[str, Any],
    ) -> Request:
        """The prompt with strategy and tuned policy; each answer has its part of the budget."""
        request = make_request(
            self._read_prompt(prompt, served, options),
            _plain_params(params, served.asked),
            served.asked.strategy,
            self._policy,
            self._carry_options(prompt, options, served.asked.strategy),
            budget=served.asked.budget,
            on_reward_error=served.asked.on_reward_error,
        )
        answers = request.n * served.num_prompts
        return replace(request, budget=split_budget(served.asked.budget, answers))

    def _read_prompt(self, given: Any, served: ServedRequest, options: Mapping[str, Any]) -> Prompt:
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
            item = {
                name: value for name, value in given.items() if value and name not in _RENDERER_KEYS
            }
            if served.num_begun < len(served.conversations):
                item["messages"] = served.conversations[served.num_begun]
        prompt = read_prompt(item, self._policy)
        # what vLLM's handler rendered it with, which tells whether the model was asked to think
        parser = options.get("reasoning_parser_kwargs") or {}
        variables = parser.get("chat_template_kwargs") or {}
        chat = ChatOptions(chat_template_kwargs=_told_to_template(variables))
        return replace(prompt, chat=chat)

    async def _answer(self, job: PromptJob) -> AsyncGenerator["RequestOutput", None]:
        served = job.served
        headers, begun = job.trace_headers, False
        started = time.perf_counter()
        self._open.setdefault(job.request_id, set()).add(job)
        try:
            async with self._admit(job):
                with self.observer.observe(served.asked.name, job.request_id, headers) as observed:
                    async with contextlib.aclosing(job.stream_outputs(observed)) as outputs:
                        async for each in outputs:
                            served.seconds = time.perf_counter() - started
                            begun = True
                            yield each
        except RsalignError as error:
            if isinstance(error, BusyError):
                self.observer.count_refusal(error.reason)
            served.failure = as_vllm_error(error)
            if served.reports_failure and not begun:
                return  # vLLM would log a stack for a failure that has a status of its own
            raise served.failure from None
        finally:
            self._open[job.request_id].discard(job)
            if not self._open[job.request_id]:
                del self._open[job.request_id]

    def _carry_options(
        self, prompt: Any, options: Mapping[str, Any], strategy: Strategy
    ) -> RequestOptions:
        """The arguments of `AsyncLLM.generate` that each request to the engine gets, too.

        Draws that are not the answer itself come after the requests that somebody reads as they are
        drawn, if the engine schedules by priority.
        """
        carried = {
            name: value
            for name, value in options.items()
            if value is not None and TABLES["AsyncLLM.generate"][name].fate is Fate.ENGINE
        }
        by_priority = self._inner.vllm_config.scheduler_config.policy == "priority"
        if by_priority and not answers_in_one_draw(strategy):
            carried["priority"] = carried.get("priority", 0) + 1
        salt = prompt.get("cache_salt") if isinstance(prompt, Mapping) else None
        return RequestOptions(**carried, cache_salt=salt or "")

    def _fill_window(self) -> None:
        """Sets what the window leaves open by what the engine computes at once."""
        window, capacity = self.window, self._engine.capacity
        if window.size is None:
            window.size = max(1, capacity - capacity // _PART_LEFT_FREE)
        if window.size_beside is None:
            window.size_beside = min(window.size, max(1, capacity // _PART_BESIDE_OTHERS))
        window.has_others = self._has_plain

    def _has_plain(self) -> bool:
        """Whether the engine answers requests that draw once, or did just now."""
        now = time.monotonic()
        if self._inner.output_processor.get_num_unfinished_requests() > self.window.num_open:
            self._last_plain = now
        return now - self._last_plain < _PLAIN_SECONDS

    def _admit(self, job: PromptJob) -> contextlib.AbstractAsyncContextManager[None]:
        """Makes room for a prompt, unless its handler has for the whole HTTP request."""
        if job.served.admitted:
            return contextlib.nullcontext()
        answers = job.request.n
        draws = answers * parallel_draws(job.served.asked.strategy)
        return self.admission.admit(answers=answers, draws=draws)


EngineClient.register(AlignedClient)


def _guard(reward: Reward | None) -> GuardedReward | None:
    return reward if reward is None or isinstance(reward, GuardedReward) else GuardedReward(reward)


def _told_to_template(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a template among those that vLLM's renderer was given."""
    ours = {each.name for each in fields(ChatOptions)} | {"tokenize", "continue_final_message"}
    return {name: value for name, value in variables.items() if name not in ours}


def _plain_params(params: "SamplingParams", asked: StrategyRequest) -> "SamplingParams":
    """The parameters as `Aligner` takes them.

    Raises:
        ConfigError: if log-probabilities are to be streamed, or two seeds are given.
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
    if plain.max_tokens is not None and asked.max_tokens is not None:
        plain.max_tokens = min(plain.max_tokens, asked.max_tokens)
    plain.seed = one_seed(plain.seed, asked.seed)
    return plain
