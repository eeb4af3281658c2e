"""Wrappers that record the draws of a policy and the values of a reward in a journal."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rsalign.core.checks import finite_or_none, finite_reward
from rsalign.core.fingerprint import fingerprint
from rsalign.core.journal import Journal, request_address
from rsalign.core.key import Key
from rsalign.core.most_probable import GreedySegment, ListsTokens, require_listing
from rsalign.core.protocols import (
    Boundary,
    Likelihood,
    Measuring,
    PairwiseReward,
    Policy,
    Reward,
    StepReward,
    require_likelihood,
    require_measuring,
)
from rsalign.core.types import (
    Certainty,
    Prompt,
    Ranked,
    Response,
    Scored,
    Segment,
    Stop,
    Tokens,
)
from rsalign.core.wrapper import Wrapper

OnReplay: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class JournaledPolicy(Wrapper):
    """A policy that replays recorded draws from a journal and records new ones.

    Attributes:
        inner: the policy that makes the draws that are not recorded yet.
        journal: the records.
        on_replay: called for each draw that is replayed.

    Raises:
        ConfigError: if the policy has no fingerprint.

    Example:
        >>> import asyncio, tempfile
        >>> from rsalign import Journal
        >>> from rsalign.testing import ToyPolicy
        >>> async def draw(journal):
        ...     policy = JournaledPolicy(ToyPolicy(), journal)
        ...     return await policy.extend((1,), max_new_tokens=4, key=Key(0))
        >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/journal") as journal:
        ...     first, second = asyncio.run(draw(journal)), asyncio.run(draw(journal))
        >>> first == second, journal.statistics()
        (True, JournalStatistics(replayed=1, recorded=1))
    """

    inner: Policy
    journal: Journal
    on_replay: OnReplay | None = None
    _fingerprint: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fingerprint", self.journal.fingerprint_of(self.inner))

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Replays the draw, or draws from the inner policy and records it."""
        draw = self.inner.extend
        return await self._draw("extend", draw, prefix, max_new_tokens, key, boundary)

    def text(self, tokens: Tokens) -> str:
        """Decodes with the inner policy."""
        return self.inner.text(tokens)

    async def _draw(
        self,
        verb: str,
        draw: Callable[..., Any],
        prefix: Tokens,
        max_new_tokens: int,
        key: Key,
        boundary: Boundary | None,
    ) -> Segment:
        rule = None if boundary is None else fingerprint(boundary)
        request = request_address(
            verb, self._fingerprint, prefix, max_new_tokens, key.root, key.path, rule
        )
        if (found := self.journal.find(request)) is not None:
            if self.on_replay is not None:
                self.on_replay()
            return decode_segment(found)
        segment: Segment = await draw(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        self.journal.record(request, encode_segment(segment))
        return segment


@JournaledPolicy.implements(Measuring)
async def measure(
    self: JournaledPolicy,
    prefix: Tokens,
    *,
    max_new_tokens: int,
    key: Key,
    boundary: Boundary | None = None,
) -> Segment:
    """Replays the draw with its certainty, or draws from the inner policy and records it."""
    draw = require_measuring(self.inner).measure
    return await self._draw("measure", draw, prefix, max_new_tokens, key, boundary)


@JournaledPolicy.implements(ListsTokens)
async def most_probable(
    self: JournaledPolicy, prefix: Tokens, *, max_new_tokens: int, num: int
) -> GreedySegment:
    """Replays a greedy continuation, or asks the inner policy and records it."""
    request = request_address("most_probable", self._fingerprint, prefix, max_new_tokens, num)
    if (found := self.journal.find(request)) is not None:
        if self.on_replay is not None:
            self.on_replay()
        segment, listed, eos = found
        places = tuple(tuple((token, value) for token, value in place) for place in listed)
        return GreedySegment(decode_segment(segment), places, tuple(eos))
    drawn = await require_listing(self.inner).most_probable(
        prefix, max_new_tokens=max_new_tokens, num=num
    )
    self.journal.record(request, [encode_segment(drawn.segment), drawn.listed, drawn.eos])
    return drawn


@JournaledPolicy.implements(Likelihood)
async def log_probs(self: JournaledPolicy, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
    """Replays the log-probabilities, or asks the inner policy and records them."""
    request = request_address("log_probs", self._fingerprint, prefix, tokens)
    if (found := self.journal.find(request)) is not None:
        return tuple(value if rank is None else Ranked(value, rank=rank) for value, rank in found)
    values = await require_likelihood(self.inner).log_probs(prefix, tokens)
    self.journal.record(request, [[value, getattr(value, "rank", None)] for value in values])
    return values


@dataclass(frozen=True, slots=True)
class JournaledJudge(Wrapper):
    """What compares responses or judges steps: recorded values are replayed, new ones recorded.

    Attributes:
        inner: the judge.
        journal: the records.

    Raises:
        ConfigError: if the judge has no fingerprint.
    """

    inner: Any
    journal: Journal
    _fingerprint: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fingerprint", self.journal.fingerprint_of(self.inner))

    def _record(self, request: str, values: Iterable[object], *, several: bool = False) -> None:
        """Records values; none if one is not a finite number, which the caller refuses."""
        rows = []
        for value in values:
            found = finite_or_none(value)
            if found is None:
                return
            rows.append(encode_reward(found))
        self.journal.record(request, rows if several else rows[0])


@dataclass(frozen=True, slots=True)
class JournaledReward(JournaledJudge):
    """A reward that replays recorded values from a journal and records new ones.

    Attributes:
        inner: the reward that scores what is not recorded yet.
        journal: the records.

    Raises:
        ConfigError: if the reward has no fingerprint.

    Example:
        >>> import asyncio, tempfile
        >>> from rsalign import Journal, Stop
        >>> from rsalign.testing import ToyReward
        >>> async def score(journal):
        ...     response = Response((2, 0), "2", Stop.EOS)
        ...     return await JournaledReward(ToyReward(), journal).score(Prompt((), (1,)), response)
        >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/journal") as journal:
        ...     asyncio.run(score(journal)) == asyncio.run(score(journal))
        True
    """

    async def score(self, prompt: Prompt, response: Response) -> float:
        """Replays the reward, or asks the inner reward and records it."""
        request = request_address("score", self._fingerprint, prompt, _fields_of(response))
        if (found := self.journal.find(request)) is not None:
            return decode_reward(found)
        value = finite_reward(
            await self.inner.score(prompt, response), self.inner, prompt, response
        )
        self._record(request, [value])
        return value


@JournaledJudge.implements(StepReward)
async def score_steps(
    self: JournaledJudge, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """Replays the rewards of the steps, or asks the inner reward and records them."""
    request = request_address("score_steps", self._fingerprint, prompt, _fields_of(response), ends)
    if (found := self.journal.find(request)) is not None:
        return tuple(map(decode_reward, found))
    inner: StepReward = self.wrapped
    values = tuple(await inner.score_steps(prompt, response, ends))
    self._record(request, values, several=True)
    return values


@JournaledJudge.implements(PairwiseReward)
async def prefer(self: JournaledJudge, prompt: Prompt, one: Response, other: Response) -> float:
    """Replays the comparison, or asks the inner reward and records it."""
    request = request_address(
        "prefer", self._fingerprint, prompt, _fields_of(one), _fields_of(other)
    )
    if (found := self.journal.find(request)) is not None:
        return decode_reward(found)
    inner: PairwiseReward = self.wrapped
    value = await inner.prefer(prompt, one, other)
    self._record(request, [value])
    return value


def journal_part(part: Any, journal: Journal, on_replay: OnReplay) -> Any:
    """Returns a named part of a run, of the same kind, whose answers are on record."""
    if isinstance(part, Policy):
        return JournaledPolicy(part, journal, on_replay)
    return (JournaledReward if isinstance(part, Reward) else JournaledJudge)(part, journal)


def _fields_of(response: Response) -> tuple[object, ...]:
    """Returns every field of a response that a reward can read."""
    return (
        response.text,
        response.tokens,
        response.stop,
        response.stop_reason,
        response.log_probs,
        response.certainty,
    )


def encode_reward(value: float) -> list[Any]:
    """Returns a reward as JSON data, complete: components and exclusion only if it has them."""
    scored = value if isinstance(value, Scored) else Scored(value)
    row = [float(scored), scored.tokens, scored.cached_tokens]
    return [*row, dict(scored.parts), scored.excluded] if scored.parts or scored.excluded else row


def decode_reward(data: Any) -> Scored:
    """Restores a reward from a record."""
    value, tokens, cached, *more = data
    parts, excluded = more or ({}, False)
    return Scored(value, tokens=tokens, cached_tokens=cached, parts=parts, excluded=excluded)


def encode_segment(segment: Segment) -> list[Any]:
    """Returns a segment as JSON data, complete."""
    return [
        segment.tokens,
        segment.log_probs,
        segment.stop,
        segment.stop_reason,
        segment.cached_tokens,
        segment.beyond and encode_segment(segment.beyond),
        segment.boundary_entropy,
        segment.certainty and [segment.certainty.entropies, segment.certainty.self_certainties],
    ]


def decode_segment(data: Any) -> Segment:
    """Restores a segment from a record."""
    tokens, log_probs, stop, stop_reason, cached_tokens, beyond, boundary_entropy, certainty = data
    return Segment(
        tuple(tokens),
        None if log_probs is None else tuple(log_probs),
        Stop(stop),
        stop_reason,
        cached_tokens,
        boundary_entropy,
        certainty and Certainty(*map(tuple, certainty)),
        beyond and decode_segment(beyond),
    )
