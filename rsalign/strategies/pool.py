"""A pool of candidates: how they are drawn as a selector needs them, and what is put on record."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rsalign.core.capabilities import (
    asks_judge,
    needs_certainty,
    needs_reward,
    varies_by_policy_alone,
)
from rsalign.core.checks import part, quote
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Strategy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Note, Proposal, Trace, Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import effective_sample_size, pool_kl
from rsalign.selectors.protocol import Selection, Selector

STRATEGY = part("a strategy, such as Plain()")
"""What a strategy inside another one must be."""


def require_fit(owner: object, inner: Strategy, select: Selector) -> None:
    """Refuses a selector that must know what the inner strategy does not tell.

    Raises:
        ConfigError: with both.
    """
    if needs_certainty(select) and not hasattr(inner, "measured"):
        raise ConfigError(
            f"{type(owner).__name__}(inner={quote(inner)}, select={quote(select)}): the selector "
            "must know how certain the policy was of each draw, which this inner strategy does not "
            "ask: give inner=Plain()"
        )


def any_needs_reward(inner: Strategy, select: Selector) -> bool:
    """Whether the selector or the inner strategy asks for rewards."""
    return needs_reward(select) or needs_reward(inner)


@dataclass(slots=True)
class Pool:
    """The candidates of one prompt, and how one of them is chosen.

    Candidate i is drawn at the address ``("candidate", i)`` below the run. If the run is ended
    early, the selector chooses among those that are finished by then.

    Attributes:
        prompt: what is answered.
        run: of the strategy that owns the pool.
        inner: draws each candidate.
        select: chooses.
        select_key: the address of the choice among so many candidates.
    """

    prompt: Prompt
    run: Run
    inner: Strategy
    select: Selector
    select_key: Callable[[int], Key]
    _drawn: dict[int, Candidate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if needs_certainty(self.select):
            self.inner = dataclasses.replace(self.inner, measured=True)  # type: ignore[type-var]
        self.run.trace.answer_by(self._choose_so_far)

    def distinct(self, n: int) -> int:
        """How many of n candidates must be drawn: one, where the others could only repeat it."""
        if n == 1 or not varies_by_policy_alone(self.inner):
            return n
        return 1 if self.run.has_one_answer(f"1 candidate was drawn instead of {n}") else n

    async def draw(self, numbers: Iterable[int]) -> None:
        """Draws the candidates of these numbers, all at once."""

        async def one(i: int) -> None:
            run = self.run.branch("candidate", i)
            self._drawn[i] = await self.inner.sample(self.prompt, run)

        await concurrently(one(i) for i in numbers)

    async def choose(self) -> tuple[Sequence[Candidate], Selection]:
        """All candidates, by number, and the choice among them."""
        candidates = [self._drawn[i] for i in sorted(self._drawn)]
        return candidates, await self._selection(candidates)

    async def _selection(self, candidates: Sequence[Candidate]) -> Selection:
        return await self.select.select(self.prompt, candidates, self.select_key(len(candidates)))

    async def _choose_so_far(self) -> Candidate | None:
        """Among finished candidates; an unfinished inner run may know its answer all the same."""
        if asks_judge(self.select):
            self.run.trace.warn(
                f"the run was ended before {type(self.select).__name__} had chosen, and no judge "
                "is asked then: the best answer by reward is returned, or the first where there "
                "is no reward"
            )
            return None
        finished = dict(self._drawn)
        for labels, child in self.run.trace.children.items():
            match labels:
                case ("candidate", int(i)) if i not in finished and child.estimate is not None:
                    answer = await child.estimate()
                    if answer is not None and answer.response.complete:
                        finished[i] = answer
        if not finished:
            return None
        candidates = [finished[i] for i in sorted(finished)]
        selection = await self._selection(candidates)
        record(self.run.trace, candidates, selection)
        return candidates[selection.index]


def record(trace: Trace, candidates: Sequence[Candidate], selection: Selection) -> None:
    """All candidates with the probability of choosing them, and what the choice rests on."""
    for i, (candidate, prob) in enumerate(zip(candidates, selection.probs, strict=True)):
        verdict = Verdict.ACCEPTED if i == selection.index else Verdict.REJECTED
        log_accept = min(0.0, math.log(prob)) if prob > 0 else float("-inf")
        trace.propose(Proposal(candidate=candidate, kept=0, log_accept=log_accept, verdict=verdict))
    notes: dict[str, Note] = {
        "rewards": tuple(float(candidate.reward) for candidate in candidates),
        "kl_estimate": pool_kl(selection.probs, [candidate.tokens for candidate in candidates]),
        "effective_sample_size": effective_sample_size(selection.probs),
    }
    trace.note(**notes | dict(selection.notes))
