"""The immutable values that strategies, policies and rewards exchange.

`Sampling` and `Message`, two more of them, have modules of their own and can be imported from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from rsalign.core.errors import ConfigError
from rsalign.core.key import Label
from rsalign.core.sampling import Sampling as Sampling
from rsalign.core.text.chat_options import NO_CHAT_OPTIONS, ChatOptions
from rsalign.core.text.messages import Message as Message

Tokens: TypeAlias = tuple[int, ...]
"""Token ids in the policy's vocabulary."""


class Stop(StrEnum):
    """Why a draw stopped. Only after `BOUNDARY` may the response continue.

    Example:
        >>> Stop("eos") is Stop.EOS
        True
    """

    EOS = "eos"
    """The policy drew its end-of-sequence token (EOS), which is the last token of the segment."""
    STOP = "stop"
    """A stop string or stop token that the caller asked for was reached."""
    LENGTH = "length"
    """The response reached its token limit. This is an ordinary state, not a failure."""
    BOUNDARY = "boundary"
    """The segment ended where the segmenter says; the response may continue."""
    ABSTAINED = "abstained"
    """The strategy gives no answer (`Run.abstain`); the policy never stops so."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be answered, in two forms: messages for rewards, token ids for the policy.

    Attributes:
        messages: the conversation; a reward model renders it with its *own* chat template.
        tokens: the conversation with the policy's chat template applied; the policy continues
            these tokens.
        chat: the options that the conversation was rendered with.
        warnings: what the user should know about this prompt; they become warnings of the result.

    Raises:
        ConfigError: if there are no tokens.

    Example:
        >>> Prompt((Message("user", "Hello"),), (1, 15043)).text
        'Hello'
    """

    messages: tuple[Message, ...]
    tokens: Tokens
    # the tokens tell prompts apart, so that equality and journals need nothing else
    chat: ChatOptions = field(default=NO_CHAT_OPTIONS, compare=False, repr=False)
    warnings: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ConfigError("the prompt is empty: a policy needs at least one token to continue")

    @property
    def text(self) -> str:
        """The text of a single message, or the conversation after the speakers' names."""
        if len(self.messages) == 1:
            return self.messages[0].text
        return "\n\n".join(f"{message.speaker}: {message.text}" for message in self.messages)


@dataclass(frozen=True, slots=True)
class Certainty:
    """How certain the model was at each token, by two measures of its next-token distribution p.

    Both use the full vocabulary (of V tokens) at temperature 1, in float32.

    Attributes:
        entropies: entropy of p, nats, ``(tokens,)``.
        self_certainties: KL(uniform || p), nats, ``(tokens,)``: the mean over the vocabulary of
            -ln(V * p) (Kang et al. 2025, arXiv:2502.18581).

    Example:
        >>> both = Certainty((0.5,), (2.0,)) + Certainty((0.1,), (3.0,))
        >>> both.upto(1)
        Certainty(entropies=(0.5,), self_certainties=(2.0,))
    """

    entropies: tuple[float, ...] = ()
    self_certainties: tuple[float, ...] = ()

    def __add__(self, other: "Certainty") -> "Certainty":
        """Concatenates the measures of two consecutive pieces."""
        return Certainty(
            self.entropies + other.entropies, self.self_certainties + other.self_certainties
        )

    def upto(self, num_tokens: int) -> "Certainty":
        """Returns the measures of the first `num_tokens` tokens."""
        return Certainty(self.entropies[:num_tokens], self.self_certainties[:num_tokens])


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens that one call of `Policy.extend` drew.

    Attributes:
        tokens: the new tokens only, at least one; EOS is included if it was drawn.
        log_probs: ln pi(token | everything before it), nats, ``(tokens,)``. pi is the distribution
            that the tokens were drawn from, after temperature and truncation. None if the engine
            does not report it.
        stop: why the draw ended.
        stop_reason: the stop string, or the id of the stop token, if `stop` is ``STOP``.
        cached_tokens: prefix tokens that the engine found in its prefix cache.
        boundary_entropy: entropy of the next token's distribution, nats, if an entropy boundary
            ended the segment.
        certainty: certainty of the model at each token; None unless it was requested
            (`Measuring`).
        beyond: tokens drawn past the boundary by a policy that could not stop there (see
            `rsalign.core.overdraw`). If the response may continue after them, their `stop` is
            ``BOUNDARY``.

    Example:
        >>> segment = Segment((5, 6, 7), None, Stop.EOS)
        >>> cut = segment.cut(2)
        >>> cut.tokens, str(cut.stop), cut.beyond.tokens, cut.num_drawn
        ((5, 6), 'boundary', (7,), 3)
        >>> cut.join(cut.beyond) == segment
        True
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
        """Number of drawn tokens, including those beyond the boundary."""
        return len(self.tokens) + (len(self.beyond.tokens) if self.beyond else 0)

    def upto(self, num_tokens: int, stop: Stop, stop_reason: int | str | None = None) -> "Segment":
        """Returns the first tokens, as if the draw had stopped after them for this reason."""
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
        """Ends the segment at a boundary after `num_tokens` tokens; the others become `beyond`."""
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
        """Appends a segment that was drawn after this one, as if both had been drawn at once."""
        log_probs = None
        if self.log_probs is not None and later.log_probs is not None:
            log_probs = self.log_probs + later.log_probs
        return replace(
            later, tokens=self.tokens + later.tokens, log_probs=log_probs, certainty=None
        )


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, complete or partial.

    Attributes:
        tokens: token ids without the prompt; EOS is included and counts in the length.
        text: all tokens decoded at once (never joined from segments), without EOS and without the
            stop string that ended the response. Of a reasoning model, the answer without the
            thought (`rsalign.core.text.reasoning`).
        stop: why the response ended; None if nothing was drawn yet, ``BOUNDARY`` if it may
            continue.
        log_probs: as in `Segment`, for all tokens; None unless all are known.
        stop_reason: as in `Segment`; if `stop` is ``ABSTAINED``, why there is no answer.
        certainty: as in `Segment`, for all tokens; None unless all are known.
        beyond: as in `Segment`, after all tokens.
        address: path of the key that the last tokens were drawn with; empty if it is not known.
        reasoning: the thought before the answer; None if there is none, or if the policy does not
            divide its text.

    Example:
        >>> response = Response((5, 6), "Yes.", Stop.LENGTH)
        >>> response.complete, response.finished
        (True, False)
    """

    tokens: Tokens
    text: str
    stop: Stop | None
    log_probs: tuple[float, ...] | None = field(default=None, compare=False)
    stop_reason: int | str | None = None
    certainty: Certainty | None = field(default=None, compare=False)
    beyond: Segment | None = field(default=None, compare=False)
    address: tuple[Label, ...] = field(default=(), compare=False, repr=False)
    reasoning: str | None = field(default=None, compare=False, repr=False)

    @property
    def complete(self) -> bool:
        """Whether no token may follow: the response ended by EOS, a stop, or its token limit."""
        return self.stop is not None and self.stop is not Stop.BOUNDARY

    @property
    def finished(self) -> bool:
        """Whether it ended by EOS or a stop, so that a reward model closes the assistant's turn."""
        return self.stop in (Stop.EOS, Stop.STOP)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response with its reward.

    Attributes:
        response: the answer, complete or partial.
        reward: in the reward's own units, higher is better; always finite. Without a meaning if the
            candidate is `excluded`.

    Example:
        >>> Candidate(Response((5, 6), "Yes.", Stop.EOS), 0.25).tokens
        (5, 6)
    """

    response: Response
    reward: float

    @property
    def tokens(self) -> Tokens:
        """The tokens of the response."""
        return self.response.tokens

    @property
    def excluded(self) -> bool:
        """Whether this must not be the answer: a constraint forbids it, or it is an abstention.

        It has probability 0 in the law of every strategy, whatever the rewards of the others.
        """
        return self.abstained or getattr(self.reward, "excluded", False)

    @property
    def abstained(self) -> bool:
        """Whether it says that there is no answer (`Stop.ABSTAINED`)."""
        return self.response.stop is Stop.ABSTAINED

    @property
    def parts(self) -> Mapping[str, float]:
        """The named components of the reward (`Scored.parts`)."""
        return getattr(self.reward, "parts", NO_PARTS)


class Ranked(float):
    """A token's log-probability that also has the token's rank; arithmetic gives plain floats.

    Attributes:
        rank: the token's place among all tokens by probability; 1 is the most probable, which
            greedy decoding takes.

    Example:
        >>> Ranked(-0.5, rank=2).rank, Ranked(-0.5, rank=2) + 1
        (2, 0.5)
    """

    __slots__ = ("rank",)

    rank: int

    def __new__(cls, value: float, *, rank: int) -> "Ranked":
        """Creates a float with a rank."""
        ranked = super().__new__(cls, value)
        ranked.rank = rank
        return ranked


class Listed(float):
    """A drawn token's log-probability that also has those of other tokens at its position.

    Attributes:
        others: what the engine reported for this position, by token id: vLLM's `Logprob` objects,
            including that of the drawn token.

    Example:
        >>> Listed(-0.5, others={7: "a Logprob of vLLM"}).others
        {7: 'a Logprob of vLLM'}
    """

    __slots__ = ("others",)

    others: Mapping[int, Any]

    def __new__(cls, value: float, *, others: Mapping[int, Any]) -> "Listed":
        """Creates a float with the log-probabilities of other tokens."""
        listed = super().__new__(cls, value)
        listed.others = others
        return listed


NO_PARTS: Mapping[str, float] = MappingProxyType({})
"""The components of a reward that has none."""


class Scored(float):
    """A reward that also has its cost, its components and a verdict; arithmetic gives plain floats.

    Attributes:
        tokens: tokens that the reward model was given.
        cached_tokens: how many of them it found in its prefix cache.
        parts: named components that the reward was computed from, each a finite number.
        excluded: whether the response must not be the answer (`rsalign.Constraint`). That is not a
            low reward: the number has no meaning then, and no strategy compares it.

    Example:
        >>> Scored(0.5, tokens=120, cached_tokens=96).cached_tokens
        96
        >>> Scored(0.5, parts={"helpful": 0.75, "harmless": 0.25}).parts["helpful"]
        0.75
    """

    __slots__ = ("cached_tokens", "excluded", "parts", "tokens")

    tokens: int
    cached_tokens: int
    parts: Mapping[str, float]
    excluded: bool

    def __new__(
        cls,
        value: float,
        *,
        tokens: int = 0,
        cached_tokens: int = 0,
        parts: Mapping[str, float] | None = None,
        excluded: bool = False,
    ) -> "Scored":
        """Creates a float with a cost, components and a verdict."""
        scored = super().__new__(cls, value)
        scored.tokens = tokens
        scored.cached_tokens = cached_tokens
        scored.parts = dict(parts) if parts else NO_PARTS
        scored.excluded = excluded
        return scored

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies by the constructor: a read-only mapping cannot be pickled."""
        return _scored, (
            float(self),
            self.tokens,
            self.cached_tokens,
            dict(self.parts),
            self.excluded,
        )


def _scored(
    value: float, tokens: int, cached_tokens: int, parts: Mapping[str, float], excluded: bool
) -> Scored:
    return Scored(value, tokens=tokens, cached_tokens=cached_tokens, parts=parts, excluded=excluded)
