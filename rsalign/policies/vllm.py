"""A language model in a vLLM engine, which rsalign starts or which the caller brings."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from rsalign.core.cancelled_draws import report_cancelled_draw
from rsalign.core.checks import check_settings
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.key import Key
from rsalign.core.named_sampling import named_sampling
from rsalign.core.protocols import Boundary
from rsalign.core.text.reasoning import Reasoning
from rsalign.core.types import Sampling, Segment, Stop, Tokens
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.protocol import Backend, DrawRequest, VllmEngine
from rsalign.engines.reports import Report, open_ticket
from rsalign.engines.vllm.adapter import Adapter
from rsalign.engines.vllm.costs import rows_of_a_step
from rsalign.engines.vllm.starting import adopt_engine, start_engine
from rsalign.hooks.guided.request import (
    Guide,
    check_guidance,
    start_arguments,
    write_guidance,
)
from rsalign.hooks.loading import add_hooks
from rsalign.hooks.shared.reports import add_boundary_entropy, add_certainty, ended_segment
from rsalign.hooks.token_statistics.request import write_statistics_request
from rsalign.policies.coded import Coded
from rsalign.policies.drawn import read_segment
from rsalign.policies.listing import Listing
from rsalign.policies.reading import ReadsText
from rsalign.policies.segment_plan import SegmentPlan
from rsalign.policies.tokenization import Tokenization
from rsalign.policies.vllm_model import VllmModel


@dataclass(frozen=True, slots=True)
class VllmPolicy(ReadsText, Coded, Listing):
    """A policy that samples from a model in a vLLM engine, with the parameters in `sampling`.

    The distribution pi is the model's next-token distribution after temperature and truncation.

    Log-probabilities are those of pi (vLLM's ``processed_logprobs``). An adopted engine may report
    raw log-probabilities; these are used only if they equal the processed ones (temperature 1, no
    truncation), and otherwise a segment's `log_probs` is None.

    Seeds: every request is seeded from its key. In float32 on CPU, the same key samples the same
    segment whatever other requests are open. Elsewhere only the distribution is the same.

    Boundaries: a size is a limit on the number of tokens. Any other boundary is applied by a logits
    processor in the engine (`rsalign.hooks`). Engines that rsalign starts load it; an adopted
    engine must have been started with it. Boundaries read the entropy of the model's distribution,
    so they cannot be combined with `logit_bias` or `allowed_token_ids`, nor, on GPUs, with
    `repetition_penalty`. With guides, the entropy is that of the guided distribution. Where the
    engine cannot apply a boundary that reads the tokens alone (``Punctuation(min_entropy=0)``), a
    segment of the greatest size is drawn and cut (`Segment.beyond`). A segment's
    `boundary_entropy` is None if the engine is an adopted one in another process that cannot report
    it (see `measure`).

    Where a segment ends, the logits processor forces a spare token, EOS or a stop token. No
    response loses any probability by that (`rsalign.policies.segment_plan`).

    Attributes:
        engine: the engine; several policies may share one.
        sampling: temperature, truncation and stop conditions, which are part of pi.
        options: options sent with each request; an adapter (LoRA) among them is part of pi.
        reasoning: how the text of responses is divided into thought and answer
            (`rsalign.core.text.reasoning`); None: the engine's own, or the plainly known.

    Example:
        >>> from rsalign.embedded import POLICY
        >>> policy = VllmPolicy.start(POLICY)  # doctest: +SKIP
        >>> segment = await policy.extend(  # doctest: +SKIP
        ...     policy.encode("Hello"), max_new_tokens=16, key=Key(0)
        ... )
    """

    overdraws: ClassVar[bool] = False  # past a boundary, but never past a segment's greatest size

    engine: VllmEngine
    sampling: Sampling = field(default_factory=Sampling)
    options: RequestOptions = NO_OPTIONS
    reasoning: Reasoning | None = None
    _shared: VllmModel | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self)
        check_guidance(self.sampling, self.engine.vllm_config)
        model = VllmModel.of(self.engine) if self._shared is None else self._shared
        object.__setattr__(self, "_shared", model.with_reasoning(self.reasoning))

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
        """What a step costs by itself, in requests, divided by our open ones; see `Loaded`."""
        return min(self.engine.capacity, rows_of_a_step()) / max(1, self.engine.num_open)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        sampling: Sampling | Literal["model"] | None = None,
        backend: Backend = "auto",
        guides: Sequence[str | Guide] = (),
        reasoning: Reasoning | None = None,
        lora: str | None = None,
        **engine_args: Any,
    ) -> "VllmPolicy":
        """Starts an engine.

        Args:
            model: Hugging Face id or path.
            sampling: see the class.
            backend: ``"in_process"`` (the default on CPU; starts in 2 s) or ``"async"`` (the
                default on GPU; the engine runs in a process of its own).
            guides: models that reward each token while it is sampled (see `Sampling.guidance`).
            reasoning: see the class. Its parser is also given to the engine, which needs it for
                `Sampling.thinking_token_budget`.
            lora: path or id of a LoRA adapter, which draws instead of the model alone.
            engine_args: arguments of vLLM's `EngineArgs`; rsalign sets defaults for some of them
                (`rsalign.engines.vllm.building`).

        Raises:
            InstallError: if vLLM is missing.
            ConfigError: if the model is missing, or vLLM refuses an argument or the adapter.
        """
        arguments = start_arguments(guides, engine_args)
        if reasoning is not None and reasoning.divides:
            arguments = {"reasoning_parser": reasoning.parser, **arguments}
        if lora is not None:
            arguments = Adapter.read(lora).engine_arguments(arguments)
        engine = start_engine(model, backend=backend, prepare=add_hooks, **arguments)
        try:
            return cls(engine, reasoning=reasoning)._under(sampling).with_adapter(lora)
        except BaseException:
            engine.close()
            raise

    @classmethod
    def adopt(
        cls,
        engine: Any,
        *,
        sampling: Sampling | Literal["model"] | None = None,
        reasoning: Reasoning | None = None,
        lora: str | None = None,
    ) -> "VllmPolicy":
        """Uses a running `vllm.LLM`, `LLMEngine` or `AsyncLLM` of the caller; never stops it.

        While rsalign has open requests, the caller must not step a `vllm.LLM` from another thread.
        A policy over an `AsyncLLM` must be awaited on the event loop that the engine runs on.
        `lora` is an adapter as in `start`; the engine must have been started with `enable_lora`.

        Raises:
            ConfigError: if `engine` is none of these, or cannot take the adapter.
        """
        ours = adopt_engine(engine)
        # a `vllm.LLM` may have a chat template of its own
        model = VllmModel.of(ours, getattr(engine, "chat_template", None))
        try:
            return cls(ours, reasoning=reasoning, _shared=model)._under(sampling).with_adapter(lora)
        except BaseException:
            ours.close()
            raise

    def _under(self, sampling: Sampling | Literal["model"] | None) -> "VllmPolicy":
        """The policy with sampling settings that may be given by name."""
        return self if sampling is None else self.with_sampling(named_sampling(self, sampling))

    @property
    def fingerprint(self) -> str:
        """Identifies this policy in a journal: model, guides, sampling parameters and adapter.

        Models are identified by content, not name (`rsalign.engines.vllm.identity`). Raw
        log-probabilities are part of it, and a code that decides the draws.

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
        return " ".join([*told, *self.code_fingerprint])

    def with_sampling(self, sampling: Sampling) -> "VllmPolicy":
        """A policy over the same engine with other sampling parameters.

        Raises:
            ConfigError: if vLLM refuses the parameters (a temperature above 2, say).
        """
        policy = replace(self, sampling=sampling)
        self.engine.check(policy._request((0,), 1, Key(0), {}, sampling.stop))
        return policy

    @property
    def model_sampling(self) -> Sampling:
        """What the model's authors recommend, and `vllm.LLM.chat` uses; ``sampling="model"``."""
        return self._model.sampling

    def with_adapter(self, lora: str | None) -> "VllmPolicy":
        """A policy over the same engine whose requests a LoRA adapter answers; None: this one.

        Raises:
            ConfigError: if there is no such adapter, or the engine cannot take it.
        """
        if lora is None:
            return self
        request = Adapter.read(lora).request(self.engine.vllm_config)
        self.engine.load_adapter(request)
        return self.with_options(RequestOptions(lora_request=request))

    def with_options(self, options: RequestOptions) -> "VllmPolicy":
        """The same policy with these options added to each of its requests."""
        return replace(self, options=options.over(self.options))

    def with_reasoning(self, reasoning: Reasoning) -> "VllmPolicy":
        """The same policy with the text of its responses divided so.

        Raises:
            ConfigError: if the parser is unknown or does not fit the model.
        """
        return replace(self, reasoning=reasoning)

    @property
    def tells_log_probs(self) -> bool:
        """Whether segments have the log-probabilities of the distribution they are sampled from."""
        exact = self._model.exact_log_probs or not self.sampling.reshapes or self.sampling.greedy
        return exact and self.options.code is None

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Samples a continuation by one request to the engine; see `Policy`."""
        return await self._draw(prefix, max_new_tokens, key, boundary, measured=False)

    async def measure(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Like `extend`, and measures how certain the model was of each token (`Measuring`).

        The measured distribution is the model's (including its guides, if any), before temperature
        and truncation: full vocabulary, temperature 1, float32.

        Raises:
            ConfigError: as `extend`; and if the engine has not loaded
                `rsalign.hooks.v1:TokenStatistics` (or ``v2``) or cannot report its results, or if
                `sampling` changes the logits before they can be measured.
        """
        if not self.engine.can_report:
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
        plan = self._plan(boundary)
        config = self.engine.vllm_config
        with open_ticket() as ticket, open_ticket() as measurement:
            asked = plan.arguments(ticket)
            if measured:
                asked |= write_statistics_request(config, self.sampling, measurement)
            stop = self._model.tokenization.engine_stops(prefix, self.sampling.stop)
            request = self._request(prefix, limit, key, asked, stop, plan.stop_token_ids)
            drawn = await self.engine.draw(request)
            segment = read_segment(drawn, room, self.sampling, self._model.eos)
            if ended := plan.may_have_ended(drawn):
                kept, report = segment.tokens[:-1], None
                shared = plan.sentinel is not None and plan.sentinel.shared
                if shared or (plan.tells_entropy and not measured):
                    report = await self._read_report(ticket, prefix, kept)
                ended = ended_segment(report) if shared else True
                if ended:  # the last token only marks the end and is not part of the segment
                    segment = segment.upto(len(kept), Stop.BOUNDARY)
                    if plan.tells_entropy and not measured:
                        segment = add_boundary_entropy(segment, report)
            if measured:
                report = await self._read_report(measurement, prefix, segment.tokens)
                segment = add_certainty(segment, report, ended=ended and plan.tells_entropy)
        return plan.cut(segment, self.token_text)

    def _plan(self, boundary: Boundary | None) -> SegmentPlan:
        return SegmentPlan.of(
            boundary,
            self.engine.vllm_config,
            self.sampling,
            self._model.sentinels,
            can_report=self.engine.can_report,
        )

    def check_boundary(self, boundary: Boundary) -> str:
        """Checks that segments can end where this boundary says; sends nothing.

        Returns: how they end, for people.
        Raises: `ConfigError`, if the engine cannot honour the boundary exactly.
        """
        return self._plan(boundary).describe(self._model.tokenization.tokenizer)

    async def _read_report(self, ticket: str, prefix: Tokens, tokens: Tokens) -> Report | None:
        try:
            return await self.engine.read_report(ticket, len(tokens))
        except asyncio.CancelledError:
            report_cancelled_draw(prefix, tokens)
            raise

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Ln pi(token | tokens before it), nats, ``(tokens,)``, each `Ranked`; by one request.

        Raises:
            ConfigError: if `sampling` reshapes the model's own law, the only one vLLM scores by.
        """
        if self.sampling.reshapes:
            raise ConfigError(
                f"vLLM cannot score given tokens under {self.sampling}: only temperature 1 "
                "without truncation is possible"
            )
        if not tokens:
            return ()
        self._check(prefix + tokens, 1)
        options = replace(self.options, num_logprobs=None, logprob_token_ids=(), watermarking=None)
        request = DrawRequest(
            prompt=prefix + tokens,
            sampling=Sampling(),
            max_tokens=1,  # the least that vLLM draws
            prompt_log_probs=True,
            scored_from=len(prefix),
            options=options,
        )
        told = (await self.engine.draw(request)).prompt_log_probs
        if told is None:  # the prefix cache had some of the tokens
            told = (await self.engine.draw(replace(request, scored_from=0))).prompt_log_probs
        scored = (told or ())[len(prefix) :]
        known = tuple(each for each in scored if each is not None)
        if len(known) < len(tokens):
            raise PolicyError("the engine returned no log-probability of the first token")
        return known

    def close(self) -> None:
        """Stops the engine if rsalign started it."""
        self.engine.close()

    def _check(self, prefix: Tokens, max_new_tokens: int) -> None:
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
        self._model.tokenization.check(prefix)

    def _request(
        self,
        prompt: Tokens,
        limit: int,
        key: Key,
        hook_arguments: Mapping[str, int | float | str],
        stop: tuple[str, ...],
        stop_token_ids: Tokens = (),
    ) -> DrawRequest:
        law = self.sampling
        return DrawRequest(
            prompt=prompt,
            sampling=law,
            max_tokens=limit,
            seed=None if law.greedy else key.seed(),
            stop=stop,
            hook_arguments={**hook_arguments, **write_guidance(law.guidance)},
            stop_token_ids=stop_token_ids,
            num_log_probs=0 if self.tells_log_probs else None,
            options=self.options,
        )
