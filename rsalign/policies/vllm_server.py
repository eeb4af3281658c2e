"""A language model behind an OpenAI-compatible server: vLLM's own, or one that knows its fields."""

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
from rsalign.core.text.detokenization import Detokenizer
from rsalign.core.types import Message, Sampling, Segment, Stop, Tokens
from rsalign.engines.affinity import PromptIndex
from rsalign.engines.answers import ServedModel, StreamedCompletion
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.remote import Replicas
from rsalign.policies.remote_hook import check_hook, hook_arguments, spare_token
from rsalign.policies.tokenization import Tokenization

_VLLM_NAMES = {"num_logprobs": "logprobs"}
_STREAM_INTERVAL = 16  # tokens in one event: few events are cheap, and none would be silence


@dataclass(frozen=True, slots=True)
class VllmServerPolicy:
    """pi is the served model's next-token law, tempered and truncated as `sampling` says.

    Prompts go to ``/v1/completions`` as token ids and the drawn ids come back (vLLM's
    ``return_token_ids``); text is never tokenized again. All settings are sent with each request,
    so that defaults on the server do not change the law.

    Log-probabilities: a server does not tell whether it reports raw or processed ones. They are
    trusted where both agree (temperature 1, no truncation), and elsewhere only if
    `processed_log_probs` says so; without, a segment's `log_probs` is None.

    Seeds: every request is seeded from its key; what this promises depends on the server's engine.

    Boundaries: a server counts tokens, so that sizes are its own affair. A rule that looks at the
    tokens alone (``Punctuation(min_entropy=0)``) is applied here, to as many tokens as a segment
    may have; those past its end are `Segment.beyond`, for the next one to begin with. Entropies are
    known within the engine only: any other rule takes a server with our hook, and a law that does
    not hide the model's own (no `logit_bias`, `allowed_token_ids` or `repetition_penalty`).

    Attributes:
        replicas: where requests go. One prompt's go to one replica, whose prefix cache knows it.
        model: what the server calls the model.
        tokenization: the model's tokenizer and the length of its context.
        sampling: temperature, truncation and stops: part of pi.
        processed_log_probs: whether the server runs with ``--logprobs-mode processed_logprobs``.
        sentinel: the stop token by which the servers' hook ends segments; None: they have no hook.
        served: what the server says that the model is; None: its name is all that is known.
        options: what goes with each request; see `with_options`.

    Raises:
        ConfigError: if `sampling` cannot be had from such a server.
    """

    overdraws: ClassVar[bool] = False  # past a rule's end, but never past a segment's size

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
    ) -> "VllmServerPolicy":
        """Connects to a running server, or to several of the same model.

        Args:
            addresses: ``"http://host:port"``, with or without ``/v1``, or a list of them.
            model: one of those served; default: the only one.
            tokenizer: id, path or a Hugging Face tokenizer; default: what the server says.
            api_key: default: the environment's OPENAI_API_KEY, if any.
            timeout_seconds: longest silence of a server that has taken a request.
            retries: number of rounds through the replicas after the first.
            max_open: greatest number of requests that are open at one replica; more wait here.
            sampling: see the class.
            processed_log_probs: see the class.
            segment_end: whether the servers run with our hook (``--logits-processors
                rsalign.hooks.v1:SegmentEnd``, or ``v2`` for vLLM's second model runner), so that
                segments end by any rule. Those that can be reached are asked whether they do.

        Raises:
            InstallError: if the package `openai` is missing.
            ConfigError: if an argument cannot work, the model or its tokenizer is not found, or a
                server has no hook.
            PolicyError: if no server answers.
        """
        replicas = Replicas(
            addresses,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            retries=retries,
            max_open=max_open,
        )
        served = replicas.call(replicas.served(model))
        length = served.max_model_len or sys.maxsize  # unknown: the server itself refuses
        tokenization = Tokenization(served.tokenizer(tokenizer), length)
        sentinel = None
        if segment_end:
            sentinel = spare_token(tokenization.tokenizer, served.name)
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
        """Tells this law from others in a journal: the model, its tokenizer, the sampling.

        The model is what the server says that it is (`ServedModel.identity`), whatever its address;
        a server does not tell its precision or quantization. Whether log-probabilities are known
        counts, too.
        """
        read = fingerprint((self.tokenization.tokenizer, self.tokenization.max_model_len))
        processed = "processed" if self.processed_log_probs else "raw"
        model = self.served.identity if self.served else self.model
        return f"server {model} {read} {self.sampling} {processed}"

    def with_sampling(self, sampling: Sampling) -> "VllmServerPolicy":
        """The same servers under another law."""
        return replace(self, sampling=sampling)

    def with_options(self, options: RequestOptions) -> "VllmServerPolicy":
        """The same policy, whose requests to the servers carry these options, too.

        Raises:
            ConfigError: if a server has no field for one of them.
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

    @property
    def tells_log_probs(self) -> bool:
        """Whether segments have the log-probabilities of the law that they are drawn from."""
        law = self.sampling
        return self.processed_log_probs or not law.reshapes or law.greedy

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """One request to a server; see `Policy`.

        When the call is cancelled, it closes the connection, so that the server aborts the request,
        and reports the tokens that had arrived (`rsalign.core.cancelled_draws`).
        """
        self._check(prefix, max_new_tokens)
        limit = max_new_tokens if boundary is None else min(max_new_tokens, boundary.max_tokens)
        arguments = hook_arguments(boundary, self.sampling, self.sentinel) if boundary else {}
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
            lambda client: StreamedCompletion.draw(client, request), affinity=self._affinity(prefix)
        )
        segment = self._segment(drawn, max_new_tokens, limit, asked)
        if arguments or boundary is None or not boundary.engine_arguments:
            return segment
        length = find_segment_end(segment.tokens, boundary, lambda one: self.token_text(*one))
        return segment if length is None else segment.cut(length)

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Ln pi(token | before), nats, ``(tokens,)``, each `Ranked`; one request without drawing.

        Raises:
            ConfigError: if pi is tempered or truncated, or the server does not score given tokens
                (vLLM's ``prompt_logprobs``).
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
            affinity=self._affinity(prefix),
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

    def text(self, tokens: Tokens) -> str:
        """Text of a response to an ordinary prompt; special tokens are left out."""
        return self.tokenization.text(tokens)

    def detokenizer(self, prompt: Tokens) -> Detokenizer:
        """The text of a response to this prompt, as vLLM's server makes it."""
        return self.tokenization.detokenizer(prompt)

    def token_text(self, token: int) -> str:
        """The text of one token, as the hook in a server sees it."""
        return self.tokenization.token_text(token)

    def encode(self, text: str) -> Tokens:
        """Token ids of a plain text prompt, special tokens added as the tokenizer does."""
        return self.tokenization.encode(text)

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
    ) -> Tokens:
        """Token ids of a conversation; see `Encoder`."""
        return self.tokenization.encode_chat(
            messages, chat_template=chat_template, add_generation_prompt=add_generation_prompt
        )

    def close(self) -> None:
        """Ends the connections; the servers run on."""
        self.replicas.close()

    def _check(self, prefix: Tokens, max_new_tokens: int) -> None:
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
        self.tokenization.check(prefix)

    def _affinity(self, prefix: Tokens) -> bytes:
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
            # shorter than the limit: the context is full, and the response as long as it can be
            at_boundary = len(tokens) == limit < max_new_tokens
            stop = Stop.BOUNDARY if at_boundary else Stop.LENGTH
        elif drawn.finish_reason != "stop":
            raise PolicyError(f"the server ended a request with {drawn.finish_reason!r}")
        elif drawn.stop_reason is None or (
            # a token that we did not ask to stop at is one of the model's own ends
            isinstance(drawn.stop_reason, int)
            and drawn.stop_reason not in self.sampling.stop_token_ids
        ):
            stop = Stop.EOS
        else:
            stop, reason = Stop.STOP, drawn.stop_reason
        return Segment(tokens, log_probs, stop, reason, cached)

    def _log_probs(self, drawn: StreamedCompletion) -> tuple[float, ...] | None:
        if self.sampling.greedy:
            return (0.0,) * len(drawn.tokens)  # the law is a point mass
        if len(drawn.log_probs) != len(drawn.tokens):
            return None
        # rounding can leave a certain token a hair above probability 1
        return tuple(min(0.0, value) for value in drawn.log_probs)
