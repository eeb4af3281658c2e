"""A language model behind vLLM's OpenAI-compatible server, or a server with the same fields."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rsalign.core.checks import at_least, check_settings
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.key import Key
from rsalign.core.overdraw import find_segment_end
from rsalign.core.protocols import Boundary, Ranked
from rsalign.core.text.reasoning import Reasoning
from rsalign.core.types import Sampling, Segment, Stop, Tokens
from rsalign.engines.affinity import PromptIndex
from rsalign.engines.answers import ServedModel, StreamedCompletion
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.remote import Replicas
from rsalign.hooks.segment_end.sentinel import Sentinel
from rsalign.policies.reading import ReadsText
from rsalign.policies.remote_hook import build_hook_arguments, check_hook, choose_stop_token
from rsalign.policies.segment_plan import SegmentPlan
from rsalign.policies.tokenization import Tokenization

_VLLM_NAMES = {"num_logprobs": "logprobs"}
_STREAM_INTERVAL = (
    16  # tokens per event: fewer events cost less, and some are needed as a sign of life
)


@dataclass(frozen=True, slots=True)
class VllmServerPolicy(ReadsText):
    """A policy that samples from a model behind a vLLM server, with the parameters in `sampling`.

    The distribution pi is the served model's next-token distribution after temperature and
    truncation. Prompts are sent to ``/v1/completions`` as token ids, and the sampled ids are
    returned (vLLM's ``return_token_ids``), so text is never tokenized again. All sampling
    parameters are sent with each request, so the server's defaults have no effect.

    Log-probabilities: a server does not say whether it reports raw or processed ones. They are used
    if both are equal (temperature 1, no truncation) or if `processed_log_probs` is set; otherwise a
    segment's `log_probs` is None.

    Seeds: every request is seeded from its key. How reproducible that is depends on the server.

    Boundaries: a size is sent as ``max_tokens``. A boundary that reads the tokens alone
    (``Punctuation(min_entropy=0)``) is applied here: a segment of the greatest size is sampled and
    cut, and the tokens after the cut are kept as `Segment.beyond`, with which the next segment
    begins. Boundaries that read entropies need a server with our logits processor, and sampling
    parameters that do not change the logits before it (no `logit_bias`, `allowed_token_ids` or
    `repetition_penalty`).

    Attributes:
        replicas: the servers. All requests of one prompt go to the same replica, so that they find
            the prompt in its prefix cache.
        model: the model's name on the server.
        tokenization: the model's tokenizer and its context length.
        sampling: temperature, truncation and stop conditions, which are part of pi.
        processed_log_probs: whether the server runs with ``--logprobs-mode processed_logprobs``.
        sentinel: the stop token by which the servers' logits processor ends segments; None: they
            have no such logits processor.
        served: the model as the server describes it; None if only its name is known.
        options: options sent with each request; see `with_options`.

    Raises:
        ConfigError: if a server cannot sample with these parameters.

    Example:
        >>> policy = VllmServerPolicy.connect("http://gpu-1:8000")  # doctest: +SKIP
        >>> segment = await policy.extend(  # doctest: +SKIP
        ...     policy.encode("Hello"), max_new_tokens=16, key=Key(0)
        ... )
    """

    overdraws: ClassVar[bool] = False  # past a boundary, but never past a segment's greatest size

    replicas: Replicas
    model: str
    tokenization: Tokenization = field(repr=False)
    sampling: Sampling = field(default_factory=Sampling)
    processed_log_probs: bool = False
    sentinel: int | None = None
    served: ServedModel | None = field(default=None, repr=False, kw_only=True)
    options: RequestOptions = field(default=NO_OPTIONS, kw_only=True)
    _prompts: PromptIndex = field(
        default_factory=PromptIndex, repr=False, compare=False, kw_only=True
    )

    def __post_init__(self) -> None:
        check_settings(self, sentinel=at_least(0))
        if any(self.sampling.guidance):
            raise ConfigError(
                f"guidance={self.sampling.guidance}: guides are part of an engine that VllmPolicy "
                "starts; a server is not asked whether it has any"
            )
        for token, bias in self.sampling.logit_bias:
            if abs(bias) > 100:
                raise ConfigError(
                    f"logit_bias of token {token} is {bias}: a server takes -100 .. 100 and would "
                    "clip it; to forbid tokens use allowed_token_ids"
                )

    @classmethod
    def connect(
        cls,
        addresses: str | Sequence[str],
        *,
        model: str | None = None,
        tokenizer: Any = None,
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
        retries: int = 4,
        max_open: int = 256,
        sampling: Sampling | None = None,
        processed_log_probs: bool = False,
        segment_end: bool = False,
        reasoning: Reasoning | None = None,
        lora: str | None = None,
    ) -> "VllmServerPolicy":
        """Connects to a running server, or to several of the same model.

        Args:
            addresses: ``"http://host:port"``, with or without ``/v1``, or a list of them.
            model: name of the served model; default: the only one that is served.
            tokenizer: id, path or a Hugging Face tokenizer; default: that of the served model.
            api_key: default: the environment variable OPENAI_API_KEY, if set.
            timeout_seconds: greatest time without data from a server that accepted a request.
            retries: number of further rounds through the replicas after a failed one.
            max_open: greatest number of open requests at one replica; further ones wait here.
            sampling: see the class.
            processed_log_probs: see the class.
            segment_end: whether the servers run with our logits processor (``--logits-processors
                rsalign.hooks.v1:SegmentEnd``, or ``v2`` for vLLM's second model runner), which is
                needed for boundaries that read entropies. All reachable servers are checked for it.
            reasoning: how the text of responses is divided into thought and answer; the server's
                own reasoning parser has no part in it, as requests for tokens do not use it.
            lora: name of a served LoRA adapter, which draws; `model` with a check that it is one.

        Raises:
            InstallError: if the package `openai` is missing.
            ConfigError: if an argument is invalid, the model or its tokenizer is not found, or a
                server lacks the logits processor.
            PolicyError: if no server answers.
        """
        replicas = Replicas(
            addresses,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            retries=retries,
            max_open=max_open,
        )
        if lora is not None and model not in (None, lora):
            raise ConfigError(
                f"model={model!r} and lora={lora!r}: give one name, the one that draws"
            )
        served = replicas.call(replicas.served(lora or model))
        if lora is not None and served.adapter is None:
            raise ConfigError(
                f"lora={lora!r} is a base model at {replicas!r}: give the name of an adapter that "
                "it serves (--enable-lora --lora-modules name=path)"
            )
        length = (
            served.max_model_len or sys.maxsize
        )  # unknown: the server itself refuses longer prompts
        tokenization = Tokenization(served.tokenizer(tokenizer), length, reasoning=reasoning)
        sentinel = None
        if segment_end:
            sentinel = choose_stop_token(tokenization.tokenizer, served)
            replicas.call(check_hook(replicas, served.name, sentinel))
        law = sampling or Sampling()
        return cls(
            replicas,
            served.name,
            tokenization,
            law,
            processed_log_probs,
            sentinel,
            served=served,
        )

    @property
    def fingerprint(self) -> str:
        """Identifies this policy in a journal: model, tokenizer and sampling parameters.

        The model is identified by what the server reports (`ServedModel.identity`), not by its
        address; a server does not report precision or quantization. `processed_log_probs` is part
        of it.
        """
        read = fingerprint((self.tokenization.tokenizer, self.tokenization.max_model_len))
        processed = "processed" if self.processed_log_probs else "raw"
        model = self.served.identity if self.served else self.model
        return f"server {model} {read} {self.sampling} {processed}"

    def with_sampling(self, sampling: Sampling) -> "VllmServerPolicy":
        """A policy over the same servers with other sampling parameters."""
        return replace(self, sampling=sampling)

    def with_options(self, options: RequestOptions) -> "VllmServerPolicy":
        """The same policy with these options added to each of its requests.

        Raises:
            ConfigError: if requests to a server have no field for one of them.
        """
        sent = ("priority", "cache_salt")
        for name, value in options.given().items():
            if name not in sent:
                raise ConfigError(
                    f"{_VLLM_NAMES.get(name, name)}={value!r} cannot be honoured by a policy "
                    f"behind a server: requests to it carry {' and '.join(sent)} only; give the "
                    "model's path, so that rsalign starts the engine"
                )
        return replace(self, options=options.over(self.options))

    def with_reasoning(self, reasoning: Reasoning) -> "VllmServerPolicy":
        """The same policy with the text of its responses divided so.

        Raises:
            ConfigError: if the parser is unknown or does not fit the model.
        """
        return replace(self, tokenization=replace(self.tokenization, reasoning=reasoning))

    @property
    def tells_log_probs(self) -> bool:
        """Whether segments have the log-probabilities of the distribution they are sampled from."""
        law = self.sampling
        return self.processed_log_probs or not law.reshapes or law.greedy

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Samples a continuation by one request to a server; see `Policy`.

        When the call is cancelled, it closes the connection, so that the server aborts the request,
        and reports the tokens that had arrived (`rsalign.core.cancelled_draws`).
        """
        self._check(prefix, max_new_tokens)
        limit = max_new_tokens if boundary is None else min(max_new_tokens, boundary.max_tokens)
        arguments = build_hook_arguments(boundary, self.sampling, self.sentinel) if boundary else {}
        asked = min(limit, self.tokenization.max_model_len - len(prefix))
        request = self._request(prefix, asked) | {
            "seed": None if self.sampling.greedy else key.seed(),
            "return_token_ids": True,
            "stream_interval": _STREAM_INTERVAL,
        }
        if self.tells_log_probs:
            request["logprobs"] = 0
        if arguments:
            request["vllm_xargs"] = arguments
            request["stop_token_ids"] = [*self.sampling.stop_token_ids, self.sentinel]
        drawn = await self.replicas.ask(
            lambda client: StreamedCompletion.draw(client, request),
            affinity=self.find_affinity(prefix),
        )
        segment = self._segment(drawn, max_new_tokens, limit, asked)
        if arguments or boundary is None or not boundary.engine_arguments:
            return segment
        length = find_segment_end(segment.tokens, boundary, lambda one: self.token_text(*one))
        return segment if length is None else segment.cut(length)

    def check_boundary(self, boundary: Boundary) -> str:
        """Checks that segments can end where this boundary says; see `EndsSegments`."""
        asked = build_hook_arguments(boundary, self.sampling, self.sentinel)
        sentinel = Sentinel(self.sentinel, False) if asked and self.sentinel is not None else None
        return SegmentPlan(boundary, sentinel, False).describe(self.tokenization.tokenizer)

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Ln pi(token | tokens before it), nats, ``(tokens,)``, each `Ranked`; by one request.

        Raises:
            ConfigError: if `sampling` has another temperature than 1 or truncates, or the server
                does not score given tokens (vLLM's ``prompt_logprobs``).
        """
        if self.sampling.reshapes:
            raise ConfigError(
                f"a server cannot score given tokens under {self.sampling}: only temperature 1 "
                "without truncation is possible"
            )
        if not tokens:
            return ()
        self._check(prefix + tokens, 1)
        request = self._request(prefix + tokens, 1) | {"prompt_logprobs": 0}
        answer: Any = await self.replicas.ask(
            lambda client: client.post("/v1/completions", cast_to=object, body=request),
            affinity=self.find_affinity(prefix),
        )
        scored = answer["choices"][0].get("prompt_logprobs")
        if scored is None:
            raise ConfigError(
                f"{self.replicas!r} returned no log-probabilities of the prompt: the server does "
                "not know prompt_logprobs; use vLLM's"
            )
        return tuple(
            Ranked(min(0.0, step[str(token)]["logprob"]), rank=step[str(token)]["rank"])
            for step, token in zip(scored[len(prefix) :], tokens, strict=True)
        )

    def close(self) -> None:
        """Closes the connections; the servers keep running."""
        self.replicas.close()

    def _check(self, prefix: Tokens, max_new_tokens: int) -> None:
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
        self.tokenization.check(prefix)

    def find_affinity(self, prefix: Tokens) -> bytes:
        """Returns what requests of one prompt share, by which a replica is chosen for them."""
        return self._prompts.find(prefix) if len(self.replicas.addresses) > 1 else b""

    def _request(self, prefix: Tokens, max_tokens: int) -> dict[str, Any]:
        law = self.sampling
        request = {
            "model": self.model,
            "prompt": list(prefix),
            "max_tokens": max_tokens,
            "temperature": law.temperature,
            "top_p": law.top_p,
            "top_k": law.top_k,
            "min_p": law.min_p,
            "repetition_penalty": law.repetition_penalty,
            # sent even where they are 0: the server's generation_config.json may set others
            "presence_penalty": law.presence_penalty,
            "frequency_penalty": law.frequency_penalty,
            "logit_bias": {str(token): bias for token, bias in law.logit_bias} or None,
            "allowed_token_ids": list(law.allowed_token_ids) or None,
            "stop": list(self.tokenization.engine_stops(prefix, law.stop)) or None,
            "stop_token_ids": list(law.stop_token_ids) or None,
        }
        unless_default = {
            "ignore_eos": law.ignore_eos,
            "min_tokens": min(law.min_tokens, max_tokens),
            "bad_words": list(law.bad_words),
            "structured_outputs": json.loads(law.structured_outputs or "null"),
            "priority": self.options.priority,
            "cache_salt": self.options.cache_salt,
        }
        if law.thinking_token_budget is not None:
            request["thinking_token_budget"] = law.thinking_token_budget
        return request | {name: value for name, value in unless_default.items() if value}

    def _segment(
        self, drawn: StreamedCompletion, max_new_tokens: int, limit: int, asked: int
    ) -> Segment:
        tokens = tuple(drawn.tokens)
        log_probs, cached = self._log_probs(drawn), drawn.cached_tokens
        reason: int | str | None = None
        if self.sentinel is not None and drawn.stop_reason == self.sentinel:
            whole = Segment(tokens, log_probs, Stop.BOUNDARY, cached_tokens=cached)
            return whole.upto(len(tokens) - 1, Stop.BOUNDARY)
        if drawn.finish_reason == "length":
            if len(tokens) < asked and self.tokenization.max_model_len < sys.maxsize:
                raise ConfigError(
                    f"the server ended a response at {len(tokens)} of {asked} tokens: it has a "
                    "limit of its own; remove max_new_tokens from its generation config"
                )
            # if shorter than the limit, the context is full
            at_boundary = len(tokens) == limit < max_new_tokens
            stop = Stop.BOUNDARY if at_boundary else Stop.LENGTH
        elif drawn.finish_reason != "stop":
            raise PolicyError(f"the server ended a request with {drawn.finish_reason!r}")
        elif drawn.stop_reason is None or (
            # a stop token that the request did not name is an end-of-sequence token
            isinstance(drawn.stop_reason, int)
            and drawn.stop_reason not in self.sampling.stop_token_ids
        ):
            stop = Stop.EOS
        else:
            stop, reason = Stop.STOP, drawn.stop_reason
        return Segment(tokens, log_probs, stop, reason, cached)

    def _log_probs(self, drawn: StreamedCompletion) -> tuple[float, ...] | None:
        if self.sampling.greedy:
            return (0.0,) * len(drawn.tokens)  # greedy decoding is a point mass
        if len(drawn.log_probs) != len(drawn.tokens):
            return None
        # by rounding, a certain token can have a log-probability slightly above 0
        return tuple(min(0.0, value) for value in drawn.log_probs)
