"""The values that travel between strategies, policies and rewards. All are immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TypeAlias

from rsalign.core.checks import above, at_least, check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.key import Label
from rsalign.core.text.messages import (
    Message as Message,  # one of these values, in a module of its own
)

Tokens: TypeAlias = tuple[int, ...]
"""Token ids in the policy's vocabulary."""

_UNSPLITTABLE = 1e-6  # a nucleus of this mass is one token in any vocabulary of up to a million


class Stop(StrEnum):
    """Why drawing stopped.

    Only `BOUNDARY` leaves the response open: a segmenter ended the segment and more may follow.
    """

    EOS = "eos"
    """The policy drew its end-of-sequence token, which is the last token of the segment."""
    STOP = "stop"
    """A stop string or stop token of the caller's was reached."""
    LENGTH = "length"
    """The response has as many tokens as it may have. It is an ordinary state, not a failure."""
    BOUNDARY = "boundary"
    """A segment ended where the segmenter said."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be answered, once for the reward and once for the policy.

    Attributes:
        messages: rendered by a reward model with its *own* chat template.
        tokens: continued by the policy, whose chat template is already applied.
    """

    messages: tuple[Message, ...]
    tokens: Tokens

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ConfigError("the prompt is empty: a policy needs at least one token to continue")

    @property
    def text(self) -> str:
        """The one message's text, or the conversation with its roles (and names) named."""
        if len(self.messages) == 1:
            return self.messages[0].text
        return "\n\n".join(f"{message.speaker}: {message.text}" for message in self.messages)


@dataclass(frozen=True, slots=True)
class Certainty:
    """How certain the model was of each token's law: full vocabulary, temperature 1, float32.

    Attributes:
        entropies: of the law that each token was drawn from, nats, ``(tokens,)``.
        self_certainties: KL(uniform || law) for each token, nats, ``(tokens,)``: the mean over the
            vocabulary of -ln(vocab * p) (Kang et al. 2025, arXiv:2502.18581).
    """

    entropies: tuple[float, ...] = ()
    self_certainties: tuple[float, ...] = ()

    def __add__(self, other: "Certainty") -> "Certainty":
        """That of both pieces, one after the other."""
        return Certainty(
            self.entropies + other.entropies, self.self_certainties + other.self_certainties
        )

    def upto(self, num_tokens: int) -> "Certainty":
        """That of the first tokens."""
        return Certainty(self.entropies[:num_tokens], self.self_certainties[:num_tokens])


@dataclass(frozen=True, slots=True)
class Segment:
    """What one extension drew.

    Attributes:
        tokens: the new tokens only, at least one; EOS is included where it was drawn.
        log_probs: ln pi(token | what came before), nats, ``(tokens,)``, where pi is the law the
            tokens were drawn from (tempered, truncated). None where the engine cannot tell.
        stop: why it ended.
        stop_reason: the stop string, or the id of the stop token, if `stop` is ``STOP``.
        cached_tokens: how many tokens of the prefix the engine did not have to compute again.
        boundary_entropy: of the next token's law where an entropy boundary ended it, nats.
        certainty: of its tokens, ``(tokens,)``; None unless it was asked for (`Measuring`).
        beyond: what was drawn past the boundary, by a policy that could not stop there; see
            `rsalign.core.overdraw`. Its `stop` is ``BOUNDARY`` if the response may go on after it.
    """

    tokens: Tokens
    log_probs: tuple[float, ...] | None
    stop: Stop
    stop_reason: int | str | None = None
    cached_tokens: int = field(default=0, compare=False)
    boundary_entropy: float | None = field(default=None, compare=False)
    certainty: Certainty | None = field(default=None, compare=False)
    beyond: "Segment | None" = field(default=None, compare=False)

    @property
    def num_drawn(self) -> int:
        """Number of tokens, with those beyond the boundary."""
        return len(self.tokens) + (len(self.beyond.tokens) if self.beyond else 0)

    def upto(self, num_tokens: int, stop: Stop, stop_reason: int | str | None = None) -> "Segment":
        """Its first tokens, as if drawing had stopped after them for this reason."""
        return replace(
            self,
            tokens=self.tokens[:num_tokens],
            log_probs=self.log_probs and self.log_probs[:num_tokens],
            stop=stop,
            stop_reason=stop_reason,
            boundary_entropy=None,
            certainty=self.certainty and self.certainty.upto(num_tokens),
            beyond=None,
        )

    def cut(self, num_tokens: int) -> "Segment":
        """Its first tokens up to a boundary; all the others are beyond it."""
        if num_tokens == len(self.tokens):
            return self
        rest = replace(
            self,
            tokens=self.tokens[num_tokens:],
            log_probs=self.log_probs and self.log_probs[num_tokens:],
            cached_tokens=0,
            certainty=None,
        )
        return replace(self.upto(num_tokens, Stop.BOUNDARY), beyond=rest)

    def join(self, later: "Segment") -> "Segment":
        """With the tokens that were drawn after it, as if all had been drawn at once."""
        log_probs = None
        if self.log_probs is not None and later.log_probs is not None:
            log_probs = self.log_probs + later.log_probs
        return replace(
            later, tokens=self.tokens + later.tokens, log_probs=log_probs, certainty=None
        )


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whole or partial.

    Attributes:
        tokens: token ids, prompt excluded; EOS is part of them and counts in the length.
        text: decoded from all tokens at once, never joined from segments; without EOS, and without
            the stop string that ended it.
        stop: why it ended; None: nothing was drawn yet; ``BOUNDARY``: still open.
        log_probs: as in `Segment`, for all tokens; None where they are not all known.
        stop_reason: as in `Segment`.
        certainty: as in `Segment`, for all tokens; None where it is not known of all.
        beyond: as in `Segment`, after all tokens.
        address: path of the key that its last tokens were drawn under; empty if that is not known.
    """

    tokens: Tokens
    text: str
    stop: Stop | None
    log_probs: tuple[float, ...] | None = field(default=None, compare=False)
    stop_reason: int | str | None = None
    certainty: Certainty | None = field(default=None, compare=False)
    beyond: Segment | None = field(default=None, compare=False)
    address: tuple[Label, ...] = field(default=(), compare=False, repr=False)

    @property
    def complete(self) -> bool:
        """Whether nothing may be added: it ended by EOS, by a stop or at its greatest length."""
        return self.stop is not None and self.stop is not Stop.BOUNDARY

    @property
    def finished(self) -> bool:
        """Whether it ended of its own (EOS or a stop), so that a reward model closes its turn."""
        return self.stop in (Stop.EOS, Stop.STOP)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response with its reward.

    Attributes:
        response: the answer, whole or partial.
        reward: higher is better; in the reward's own units; always finite.
    """

    response: Response
    reward: float

    @property
    def tokens(self) -> Tokens:
        """The response's tokens."""
        return self.response.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What makes pi of a model's raw next-token law; the names are vLLM's.

    Most settings depend on the tokens so far only, so that a response drawn in segments has the
    law of one drawn at once. Those of `whole_answer_fields` also depend on where the prompt ended,
    which an engine cannot tell once a part of the answer is sent to it as a prompt: only
    strategies that draw whole answers can have them (`rsalign.core.capabilities.cuts_answers`).

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus; 1 keeps everything.
        top_k: number of most probable tokens kept; 0 keeps everything.
        min_p: least probability relative to the most probable token.
        repetition_penalty: divides the logits of tokens that occur in prompt or response.
        logit_bias: added to logits, as pairs of token id and bias.
        allowed_token_ids: if not empty, all others have probability 0.
        stop: strings that end a response; they are not part of its text.
        stop_token_ids: tokens that end a response.
        guidance: weight of each of the engine's guides (`rsalign.hooks.guided.rule`), in their
            order;
            empty: none of them counts. The model's law is then the guided one.
        ignore_eos: the end-of-sequence token does not end a response.
        min_tokens: before the response has so many tokens, no token and no string ends it.
        presence_penalty: subtracted from the logits of tokens that occur in the response.
        frequency_penalty: subtracted once for each time that a token occurs in the response.
        bad_words: words that the response never completes.
        structured_outputs: the grammar that the response is held to, as the JSON object of the
            fields of vLLM's `StructuredOutputsParams` that are set; empty: none.
        thinking_token_budget: greatest number of tokens of a reasoning model's thinking; None: no
            limit.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: Tokens = ()
    stop: tuple[str, ...] = ()
    stop_token_ids: Tokens = ()
    guidance: tuple[float, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bad_words: tuple[str, ...] = ()
    structured_outputs: str = ""
    thinking_token_budget: int | None = None

    def __post_init__(self) -> None:
        check_settings(
            self,
            temperature=at_least(0.0, note="0 is greedy"),
            top_p=above(0.0, 1.0),
            top_k=at_least(-1, note="0 keeps everything"),
            min_p=at_least(0.0, 1.0),
            repetition_penalty=above(0.0),
            stop=at_least(1),
            stop_token_ids=at_least(0),
            allowed_token_ids=at_least(0),
            min_tokens=at_least(0),
            presence_penalty=at_least(-2.0, 2.0),
            frequency_penalty=at_least(-2.0, 2.0),
            bad_words=at_least(1),
            thinking_token_budget=at_least(0),
        )

    def first_stop(self, text: str, after: int = 0) -> str | None:
        """The stop string that is complete first in a text; None if there is none.

        Args:
            text: of a response.
            after: only strings that end beyond so many characters count (the text of the first
                `min_tokens` tokens).
        """
        ends = {stop: stop_end(text, stop, after) for stop in self.stop}
        found = {stop: end for stop, end in ends.items() if end is not None}
        return min(found, key=found.__getitem__, default=None)

    @property
    def whole_answer_fields(self) -> tuple[str, ...]:
        """The settings that hold only if an answer is drawn at once, from its first token."""
        return tuple(name for name in WHOLE_ANSWER_FIELDS if getattr(self, name) != _UNSET[name])

    def after(self, num_kept: int) -> "Sampling":
        """The law of what follows the first tokens of a response.

        Args:
            num_kept: how many tokens of the response there are already.

        Raises:
            ConfigError: if some tokens are kept, and the law needs answers that are drawn at once.
        """
        if num_kept and (names := self.whole_answer_fields):
            raise ConfigError(
                f"{names[0]}={getattr(self, names[0])!r} cannot be honoured after {num_kept} kept "
                f"tokens: {WHOLE_ANSWER_FIELDS[names[0]]}"
            )
        if not self.min_tokens or not num_kept:
            return self
        return replace(self, min_tokens=max(0, self.min_tokens - num_kept))

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken, without a draw.

        The limit of the temperature is vLLM's own. Every token then has probability 1.
        """
        return self.temperature < 1e-5

    @property
    def is_point_mass(self) -> bool:
        """Whether the settings leave one possible continuation, so that drawing again is useless.

        That is: greedy decoding; ``top_k=1``; ``min_p=1``; a `top_p` that no vocabulary can split
        (the most probable token has at least probability 1 / vocabulary); or a single allowed
        token.

        ``top_k=1`` and ``min_p=1`` keep all tokens that share the greatest logit (vLLM masks what
        is *below* the k-th value), and vLLM draws among them by the request's seed. Such exact ties
        are rare but real in 16-bit arithmetic. They count as one continuation here: one of them is
        drawn. Their log-probabilities are therefore not assumed to be 0 but read from the engine,
        unlike those of greedy decoding.
        """
        return self.why_point_mass is not None

    @property
    def why_point_mass(self) -> str | None:
        """The setting that leaves one possible continuation, for messages; None if none does."""
        if self.greedy:
            return f"temperature={self.temperature:g} is greedy"
        for name, leaves_one in (
            ("top_k", self.top_k == 1),
            ("min_p", self.min_p == 1),
            ("top_p", self.top_p <= _UNSPLITTABLE),
            ("allowed_token_ids", len(set(self.allowed_token_ids)) == 1),
        ):
            if leaves_one:
                return f"{name}={getattr(self, name)!r} allows one token at each place"
        return None

    @property
    def reshapes(self) -> bool:
        """Whether pi differs from the model's raw law."""
        return (
            self.temperature != 1
            or self.top_p < 1
            or self.top_k > 0
            or self.min_p > 0
            or self.repetition_penalty != 1
            or bool(self.logit_bias)
            or bool(self.allowed_token_ids)
            or any(self.guidance)
            or self.min_tokens > 0
            or bool(self.whole_answer_fields)
        )


WHOLE_ANSWER_FIELDS: Mapping[str, str] = {
    "presence_penalty": "it counts the tokens of the answer, and an engine that continues an "
    "answer takes those before the cut for the prompt",
    "frequency_penalty": "it counts the tokens of the answer, and an engine that continues an "
    "answer takes those before the cut for the prompt",
    "bad_words": "a word may begin before the cut, where an engine that continues an answer does "
    "not look for it",
    "structured_outputs": "a grammar (response_format, structured_outputs, a required tool) is "
    "read from the first token of an answer, and an engine cannot continue in the middle of it",
    "thinking_token_budget": "the end of the thinking that it forces has several tokens, and an "
    "engine that continues an answer does not know that it was being written",
}
"""The settings of `Sampling` that need answers which are drawn at once, with the reason."""
_UNSET = {each.name: each.default for each in fields(Sampling)}


def stop_end(text: str, stop: str, after: int = 0) -> int | None:
    """Where the first occurrence of a stop string ends that ends beyond `after` characters."""
    found = text.find(stop, max(0, after - len(stop) + 1))
    return None if found < 0 else found + len(stop)
