"""A language model in vLLM, in this process or beside it, started by us or adopted."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rsalign.core.checks import check_settings, quote
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.foreign import error_message, errors_as
from rsalign.core.key import Key
from rsalign.core.protocols import Boundary, Listed, Ranked
from rsalign.core.text.detokenization import Detokenizer
from rsalign.core.types import Message, Sampling, Segment, Stop, Tokens
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.protocol import Engine
from rsalign.engines.reports import Reading, awaited
from rsalign.engines.vllm.asynchronous import AsyncEngine
from rsalign.engines.vllm.guards import import_vllm, is_cpu_build
from rsalign.engines.vllm.inprocess import InProcessEngine
from rsalign.hooks.guided.request import (
    Guide,
    check_guidance,
    start_arguments,
)
from rsalign.hooks.segment_end.request import write_segment_request
from rsalign.hooks.shared.readings import with_boundary_entropy, with_certainty
from rsalign.hooks.token_statistics.request import write_statistics_request
from rsalign.policies.tokenization import Tokenization
from rsalign.policies.vllm_model import VllmModel
from rsalign.policies.vllm_params import engine_params

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


@dataclass(frozen=True, slots=True)
class VllmPolicy:
    """pi is the model's next-token law, tempered and truncated as `sampling` says.

    Log-probabilities are those of this law (vLLM's ``processed_logprobs``). An adopted engine that
    reports raw ones is trusted only where both agree (temperature 1, no truncation); elsewhere a
    segment's `log_probs` is None.

    Seeds: every request is seeded from its key. In float32 on CPU the same key draws the same
    segment whatever else the engine is doing; elsewhere, in distribution only.

    A boundary that is more than a size is honoured inside the engine (`rsalign.hooks`), which an
    engine that we start has and an adopted one must name. Its entropies are the model's, so that a
    law with `logit_bias` or `allowed_token_ids` cannot have one, nor, on GPUs, one with
    `repetition_penalty`. A segment's `boundary_entropy` is None if an adopted engine has a process
    of its own and cannot tell (see `measure`). Under guides they are the guided law's.

    Attributes:
        engine: where requests go. Several policies may share one.
        sampling: temperature, truncation and stops: part of pi.
        options: what goes with each request to the engine; an adapter among them is part of pi.
    """

    overdraws: ClassVar[bool] = False

    engine: Engine
    sampling: Sampling = field(default_factory=Sampling)
    options: RequestOptions = NO_OPTIONS
    _shared: VllmModel | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self)
        check_guidance(self.sampling, self.engine.vllm_config)
        if self._shared is None:
            object.__setattr__(self, "_shared", VllmModel.of(self.engine))

    @property
    def _model(self) -> VllmModel:
        assert self._shared is not None  # set on construction
        return self._shared

    @property
    def tokenization(self) -> Tokenization:
        """The model's tokenizer and the length of its context."""
        return self._model.tokenization

    @property
    def headroom(self) -> float:
        """How many requests the engine could hold for each of ours that is open now."""
        capacity: int = self.engine.vllm_config.scheduler_config.max_num_seqs
        return capacity / max(1, self.engine.num_open)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        sampling: Sampling | None = None,
        backend: Literal["auto", "in_process", "async"] = "auto",
        guides: Sequence[str | Guide] = (),
        **engine_args: Any,
    ) -> "VllmPolicy":
        """Starts an engine.

        Args:
            model: Hugging Face id or path.
            sampling: see the class.
            backend: ``"in_process"`` (default on CPU: starts in 2 s) or ``"async"`` (default on
                GPU: the engine has a process of its own).
            guides: models that may reward each token as it is drawn, by `Sampling.guidance`.
            engine_args: for vLLM's `EngineArgs`; what is not given is set by the guards.

        Raises:
            InstallError: if vLLM is missing.
            ConfigError: if the model is missing or the arguments are refused.
        """
        import_vllm()
        if backend == "auto":
            backend = "in_process" if is_cpu_build() else "async"
        kinds: Mapping[str, type[InProcessEngine] | type[AsyncEngine]] = {
            "in_process": InProcessEngine,
            "async": AsyncEngine,
        }
        if backend not in kinds:
            raise ConfigError(f"backend={backend!r}: choose 'auto', 'in_process' or 'async'")
        arguments = start_arguments(guides, engine_args)
        return cls(kinds[backend].start(model, **arguments), sampling or Sampling())

    @classmethod
    def adopt(cls, engine: Any, *, sampling: Sampling | None = None) -> "VllmPolicy":
        """Uses a running `vllm.LLM`, `LLMEngine` or `AsyncLLM` of the caller's, and leaves it so.

        While requests of ours are open, the caller must not step a `vllm.LLM` from elsewhere. An
        `AsyncLLM` must be awaited on the event loop it lives on.

        Raises:
            ConfigError: if it is neither.
        """
        ours = adopted(engine)
        # a `vllm.LLM` that was given a chat template renders with that
        model = VllmModel.of(ours, getattr(engine, "chat_template", None))
        return cls(ours, sampling or Sampling(), _shared=model)

    @property
    def fingerprint(self) -> str:
        """Tells this law from others in a journal: what the engine runs, the guides, the sampling.

        By content and not by name (`rsalign.engines.vllm.identity`); where the engine reports raw
        log-probabilities, that is told, too.

        Raises:
            ConfigError: if the model's files have changed since the engine was started or adopted.
        """
        model = self._model
        told = [f"vllm {model.fingerprint} {self.sampling}"]
        if any(self.sampling.guidance):
            told.append(f"guided by {model.guides_fingerprint}")
        if not model.exact_log_probs:
            told.append("raw log-probabilities")
        if (adapter := self.options.lora_request) is not None:
            told.append(f"adapter {ModelFiles.of(adapter.lora_path).digest()}")
        return " ".join(told)

    def with_sampling(self, sampling: Sampling) -> "VllmPolicy":
        """The same engine under another law.

        Raises:
            ConfigError: if vLLM cannot have that law (a temperature above 2, say).
        """
        config = self.engine.vllm_config
        policy = replace(self, sampling=sampling)

        def refused(failure: BaseException) -> ConfigError:
            usual = Sampling()
            names = [each.name for each in fields(Sampling)]
            asked = {n: getattr(sampling, n) for n in names}
            unusual = {n: value for n, value in asked.items() if value != getattr(usual, n)}
            return ConfigError(f"vLLM refuses {quote(unusual or asked)}: {error_message(failure)}")

        with errors_as(refused):
            policy._params(1, Key(0), {}, sampling.stop).verify(
                config.model_config,
                config.speculative_config,
                config.structured_outputs_config,
                self._model.tokenization.tokenizer,
            )
        return policy

    def with_options(self, options: RequestOptions) -> "VllmPolicy":
        """The same policy, whose requests to the engine carry these options, too."""
        return replace(self, options=options.over(self.options))

    @property
    def tells_log_probs(self) -> bool:
        """Whether segments have the log-probabilities of the law that they are drawn from."""
        law = self.sampling
        return self._model.exact_log_probs or not law.reshapes or law.greedy

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """One request to the engine; see `Policy`."""
        return await self._draw(prefix, max_new_tokens, key, boundary, measured=False)

    async def measure(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """As `extend`, with the certainty of each token; see `Measuring`.

        It is that of the model, with its guides if it has any, whatever else `sampling` makes of
        it: full vocabulary (every id that the model has a logit for), temperature 1, float32.

        Raises:
            ConfigError: as `extend`; and if the engine has no `rsalign.hooks.v1:TokenStatistics`
                (or ``v2``), cannot tell what that has measured, or the law hides the model's own.
        """
        if not self.engine.tells:
            raise ConfigError(
                "this engine cannot tell how certain the model is of each token: let rsalign start "
                "it (give a model id or path), or start yours with worker_extension_cls="
                "'rsalign.engines.reports.Reporter' as an AsyncLLM without data parallelism, or "
                "as an LLM in this process (VLLM_ENABLE_V1_MULTIPROCESSING=0)"
            )
        return await self._draw(prefix, max_new_tokens, key, boundary, measured=True)

    async def _draw(
        self,
        prefix: Tokens,
        max_new_tokens: int,
        key: Key,
        boundary: Boundary | None,
        *,
        measured: bool,
    ) -> Segment:
        self._check(prefix, max_new_tokens)
        room = min(max_new_tokens, self._model.tokenization.max_model_len - len(prefix))
        limit = room if boundary is None else min(room, boundary.max_tokens)
        config, sentinel = self.engine.vllm_config, self._model.sentinel
        asked: dict[str, int | float | str] = {}
        if boundary is not None and boundary.engine_arguments:
            asked |= write_segment_request(boundary, config, self.sampling, sentinel)
        by_entropy = "rsalign_entropy_threshold" in asked and self.engine.tells
        with awaited() as ticket:
            if measured:
                asked |= write_statistics_request(config, self.sampling, ticket)
            elif by_entropy:
                asked["rsalign_report"] = ticket
            stop = self._model.tokenization.engine_stops(prefix, self.sampling.stop)
            params = self._params(limit, key, asked, stop)
            output = await self.engine.generate(prefix, params, self.options)
            segment = self._segment(output, room)
            ended = "rsalign_sentinel" in asked and segment.stop_reason == sentinel
            if ended:  # its last token says so, and was never a part of it
                segment = segment.upto(len(segment.tokens) - 1, Stop.BOUNDARY)
            if not measured and not (ended and by_entropy):
                return segment
            reading = await self._report(ticket, segment.tokens)
        if measured:
            return with_certainty(segment, reading, ended=ended and by_entropy)
        return with_boundary_entropy(segment, reading)

    async def _report(self, ticket: str, tokens: Tokens) -> Reading | None:
        try:
            return await self.engine.report(ticket, len(tokens))
        except asyncio.CancelledError as cancelled:
            cancelled.drawn = tokens  # type: ignore[attr-defined]
            raise

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Ln pi(token | before), nats, ``(tokens,)``, each `Ranked`; one request without drawing.

        Raises:
            ConfigError: if pi is tempered or truncated: vLLM scores given tokens under the
                model's own law only.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        if self.sampling.reshapes:
            raise ConfigError(
                f"vLLM cannot score given tokens under {self.sampling}: only temperature 1 "
                "without truncation is possible"
            )
        if not tokens:
            return ()
        self._check(prefix + tokens, 1)
        output = await self.engine.generate(
            prefix + tokens,
            SamplingParams(
                max_tokens=1,
                prompt_logprobs=0,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            ),
            self.options,
        )
        scored = output.prompt_logprobs
        if scored is None:
            raise PolicyError("the engine returned no log-probabilities of the prompt")
        return tuple(
            Ranked(step[token].logprob, rank=step[token].rank)
            for step, token in zip(scored[len(prefix) :], tokens, strict=True)
            if step is not None
        )

    def text(self, tokens: Tokens) -> str:
        """Text of a response to an ordinary prompt; special tokens are left out."""
        return self._model.tokenization.text(tokens)

    def detokenizer(self, prompt: Tokens) -> Detokenizer:
        """The text of a response to this prompt, exactly as the engine would make it."""
        return self._model.tokenization.detokenizer(prompt)

    def token_text(self, token: int) -> str:
        """The text of one token, as the engine's hooks see it."""
        return self._model.tokenization.token_text(token)

    def encode(self, text: str) -> Tokens:
        """Token ids of a plain text prompt, special tokens added as the tokenizer does."""
        return self._model.tokenization.encode(text)

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
    ) -> Tokens:
        """Token ids of a conversation; see `Encoder`."""
        return self._model.tokenization.encode_chat(
            messages, chat_template=chat_template, add_generation_prompt=add_generation_prompt
        )

    def close(self) -> None:
        """Stops the engine if we started it."""
        self.engine.close()

    def _check(self, prefix: Tokens, max_new_tokens: int) -> None:
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
        self._model.tokenization.check(prefix)

    def _params(
        self,
        limit: int,
        key: Key,
        asked: Mapping[str, int | float | str],
        stop: tuple[str, ...] = (),
    ) -> "SamplingParams":
        own = 0 if self.tells_log_probs else None
        return engine_params(self.sampling, self.options, limit, key, asked, own, stop)

    def _segment(self, output: "RequestOutput", room: int) -> Segment:
        drawn = output.outputs[0]
        tokens = tuple(drawn.token_ids)
        reason: int | str | None = None
        if drawn.finish_reason == "length":
            stop = Stop.BOUNDARY if len(tokens) < room else Stop.LENGTH
        elif drawn.finish_reason != "stop":
            raise PolicyError(f"the engine ended a request with {drawn.finish_reason!r}")
        elif drawn.stop_reason is None or (
            drawn.stop_reason in self._model.eos
            and drawn.stop_reason not in self.sampling.stop_token_ids
        ):
            stop = Stop.EOS
        else:
            stop, reason = Stop.STOP, drawn.stop_reason
        return Segment(tokens, self._log_probs(drawn), stop, reason, output.num_cached_tokens or 0)

    def _log_probs(self, drawn: Any) -> tuple[float, ...] | None:
        if self.options.lists_log_probs:
            # the law of a greedy policy is a point mass, whatever the engine lists
            return tuple(
                Listed(
                    0.0 if self.sampling.greedy else min(0.0, listed[token].logprob), others=listed
                )
                for token, listed in zip(drawn.token_ids, drawn.logprobs, strict=True)
            )
        if self.sampling.greedy:
            return (0.0,) * len(drawn.token_ids)  # the law is a point mass
        if drawn.logprobs is None:
            return None
        # rounding can leave a certain token a hair above probability 1
        return tuple(min(0.0, value) for value in drawn.logprobs.logprobs)


def adopted(engine: Any) -> Engine:
    """Our protocol over a running engine of the caller's."""
    import_vllm()
    from vllm import LLM
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.llm_engine import LLMEngine

    if isinstance(engine, LLM):
        engine = engine.llm_engine
    if isinstance(engine, LLMEngine):
        return InProcessEngine(engine, owns=False)
    if isinstance(engine, AsyncLLM):
        return AsyncEngine(engine)
    raise ConfigError(
        f"cannot use a {type(engine).__name__} as an engine: give a model id or path, a vllm.LLM, "
        "an AsyncLLM or a Policy"
    )
