"""A pool of candidates: how they are drawn, how one of them is chosen, and what is recorded."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from rsalign.allocation.rules import Drawn
from rsalign.core.capabilities import (
    answers_in_one_draw,
    asks_judge,
    excludes,
    needs_certainty,
    needs_reward,
    varies_by_policy_alone,
)
from rsalign.core.checks import part, quote
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Note, Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.core.wrapper import Wrapper
from rsalign.selectors.estimators import effective_sample_size, pool_kl
from rsalign.selectors.extraction import extracted
from rsalign.selectors.protocol import Selection, Selector

STRATEGY = part("a strategy, such as Plain()")
"""What an inner strategy must be, for `check_settings`."""

POOL_NOTES = {
    "effective_sample_size": "independent draws that the weights are worth",
    "kl_estimate": "bounds KL(law || inner draw) on average, nats",
    "num_unjudged": "finished candidates that the run's end left without a reward",
    "num_excluded": "candidates that a constraint does not allow",
}
"""What the notes of `Pool.record` mean (`rsalign.core.capabilities.note_meanings`)."""


def require_fit(owner: object, inner: Strategy, select: Selector) -> None:
    """Refuses a selector that reads token certainties together with a strategy without them.

    Raises:
        ConfigError: with both.
    """
    if needs_certainty(select) and not hasattr(inner, "measured"):
        raise ConfigError(
            f"{type(owner).__name__}(inner={quote(inner)}, select={quote(select)}): the selector "
            "must know how certain the policy was of each draw, which this inner strategy does not "
            "ask: give inner=Plain()"
        )


def require_no_certainty(owner: object, select: Selector) -> None:
    """Refuses a selector that reads token certainties, of a strategy that does not measure them.

    Raises:
        ConfigError: if so.
    """
    if needs_certainty(select):
        raise ConfigError(
            f"{type(owner).__name__}(select={quote(select)}): the selector must know how certain "
            "the policy was of each draw, which this strategy does not ask: use BestOf"
        )


def any_needs_reward(inner: Strategy, select: Selector) -> bool:
    """Whether the selector or the inner strategy asks for rewards."""
    return needs_reward(select) or needs_reward(inner)


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates of a pool, and which one was chosen.

    Attributes:
        allowed: candidates that may be the answer, by number.
        excluded: the others.
        selection: the choice among `allowed`; None if there are none.
    """

    allowed: tuple[Candidate, ...]
    excluded: tuple[Candidate, ...]
    selection: Selection | None

    @property
    def candidate(self) -> Candidate | None:
        """The chosen candidate; None if none is allowed."""
        return None if self.selection is None else self.allowed[self.selection.index]


@dataclass(slots=True)
class Pool:
    """The candidates for one prompt, and the choice of one of them.

    Candidate i is drawn at the address ``("candidate", i)`` below the run.

    If the run is ended early, the selector chooses among the candidates that are finished by then.
    For a selector that needs no reward this includes complete draws whose reward was not known in
    time; it is recorded as 0. The selector is then shown no rewards at all, as if no reward had
    been given: known and unknown ones cannot be compared, not even to break ties. The note
    ``num_unjudged`` and a warning tell how many there are.

    The selector is shown only what is allowed (`Candidate.excluded`), so that its law is that among
    the allowed candidates; their number is then random. The others are recorded after them, with
    probability 0. If none is allowed, the answer is an abstention.

    Attributes:
        prompt: what is answered.
        run: the run of the strategy that owns the pool.
        inner: the strategy that draws each candidate.
        select: chooses one of them.
        select_key: from the number of candidates to the address of the choice among them.
        policy_of: from the number of a candidate to the policy that draws it; None: the run's.
    """

    prompt: Prompt
    run: Run
    inner: Strategy
    select: Selector
    select_key: Callable[[int], Key]
    policy_of: Callable[[int], Policy] | None = None
    _drawn: dict[int, Candidate] = field(default_factory=dict)
    _asked: dict[int, Response] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if needs_certainty(self.select):
            self.inner = dataclasses.replace(self.inner, measured=True)  # type: ignore[type-var]
        self.run.trace.answer_by(self._choose_so_far)

    def distinct(self, n: int) -> int:
        """How many of n candidates must be drawn: one, if the others could only repeat it."""
        if n == 1 or not varies_by_policy_alone(self.inner):
            return n
        return 1 if self.run.has_one_answer(f"1 candidate was drawn instead of {n}") else n

    async def draw(self, numbers: Iterable[int]) -> None:
        """Draws the candidates with these numbers, all at once."""

        async def draw_one(i: int) -> None:
            run = self.run.branch("candidate", i)
            if self.policy_of is not None:
                run = replace(run, policy=self.policy_of(i))
            if answers_in_one_draw(
                self.inner
            ):  # what the reward is asked about is then the candidate
                run = replace(run, reward=_RememberingReward(run.reward, i, self._asked))
            self._drawn[i] = await self.inner.sample(self.prompt, run)

        await concurrently(draw_one(i) for i in numbers)

    def drawn(self) -> Drawn:
        """What was drawn so far, for a rule of allocation."""
        extract = getattr(self.select, "extract", None)
        candidates = [self._drawn[i] for i in sorted(self._drawn)]
        return Drawn(
            tuple(
                None
                if extract is None or candidate.excluded
                else extracted(extract, candidate.response.text)
                for candidate in candidates
            ),
            tuple(-math.inf if one.excluded else float(one.reward) for one in candidates),
        )

    def add(self, number: int, candidate: Candidate) -> None:
        """Adds a candidate that was drawn elsewhere."""
        self._drawn[number] = candidate

    async def choose(self) -> Choice:
        """The choice among the candidates that were drawn."""
        return await self._choice([self._drawn[i] for i in sorted(self._drawn)])

    def answer(self, choice: Choice) -> Candidate:
        """Records the choice and commits the chosen candidate; an abstention if there is none."""
        self._record(choice)
        chosen = choice.candidate
        if chosen is None:
            num_drawn = len(choice.excluded)
            return self.run.abstain(self.prompt, f"of {num_drawn} candidates drawn none is allowed")
        self.run.trace.commit(chosen.tokens)
        return chosen

    def _record(self, choice: Choice) -> None:
        """Records each candidate with its probability of being chosen, and the pool's notes."""
        if choice.excluded:
            self.run.trace.note(num_excluded=len(choice.excluded))
        selection = choice.selection
        if selection is not None:
            for i, (candidate, prob) in enumerate(
                zip(choice.allowed, selection.probs, strict=True)
            ):
                verdict = Verdict.ACCEPTED if i == selection.index else Verdict.REJECTED
                self.run.record_proposal(candidate, verdict=verdict, prob=prob)
            self.run.trace.note(**self._notes(choice, selection))
        for candidate in choice.excluded:
            self.run.record_proposal(candidate, verdict=Verdict.REJECTED, prob=0.0)

    def _notes(self, choice: Choice, selection: Selection) -> dict[str, Note]:
        candidates = (*choice.allowed, *choice.excluded)
        probs = (*selection.probs, *(0.0 for _ in choice.excluded))
        notes: dict[str, Note] = {
            "rewards": tuple(float(candidate.reward) for candidate in choice.allowed),
            "kl_estimate": pool_kl(probs, [candidate.tokens for candidate in candidates]),
            "effective_sample_size": effective_sample_size(selection.probs),
        }
        notes |= dict(selection.notes)
        if choice.excluded:  # the formula is one of the number of draws alone
            notes.pop("kl_formula", None)
        return notes

    async def _choice(self, candidates: Sequence[Candidate]) -> Choice:
        allowed = tuple(candidate for candidate in candidates if not candidate.excluded)
        excluded = tuple(candidate for candidate in candidates if candidate.excluded)
        selection = None
        if allowed:
            key = self.select_key(len(candidates))
            selection = await self.select.select(self.prompt, allowed, key)
        return Choice(allowed, excluded, selection)

    async def _choose_so_far(self) -> Candidate | None:
        """The choice among the candidates that are finished when the run is ended early."""
        trace = self.run.trace
        if asks_judge(self.select):
            trace.warn(
                f"the run was ended before {type(self.select).__name__} had chosen, and no judge "
                "is asked then: the best answer by reward is returned, or the first where there "
                "is no reward"
            )
            return None
        finished = dict(self._drawn)
        for labels, child in trace.children.items():
            match labels:
                # an inner run that is not finished may know its answer all the same
                case ("candidate", int(i)) if i not in finished and child.estimate is not None:
                    answer = await child.estimate()
                    if answer is not None and answer.response.complete:
                        finished[i] = answer
        unjudged = {}
        if not needs_reward(self.select) and not excludes(self.run.reward):
            unjudged = self._unjudged()
        finished |= unjudged
        if not finished:
            return None
        candidates = [finished[i] for i in sorted(finished)]
        shown_candidates: Sequence[Candidate] = candidates
        if unjudged:
            shown_candidates = [Candidate(candidate.response, 0.0) for candidate in candidates]
            trace.note(num_unjudged=len(unjudged))
            trace.warn(
                f"the run was ended before {len(unjudged)} of {len(candidates)} finished answers "
                "had a reward: the selector, which needs none, chose among all of them and was "
                "shown no rewards"
            )
        choice = await self._choice(shown_candidates)
        if unjudged:  # nothing is excluded by this reward
            choice = replace(choice, allowed=tuple(candidates))
        self._record(choice)
        return choice.candidate

    def _unjudged(self) -> dict[int, Candidate]:
        """Complete responses whose reward was not known in time; 0 stands for it."""
        return {
            i: Candidate(response, 0.0)
            for i, response in self._asked.items()
            if i not in self._drawn and response.complete
        }


@dataclass(frozen=True, slots=True)
class _RememberingReward(Wrapper):
    """The same reward; it remembers what it was last asked about for one candidate."""

    inner: Reward
    number: int
    asked: dict[int, Response]

    async def score(self, prompt: Prompt, response: Response) -> float:
        self.asked[self.number] = response
        return await self.inner.score(prompt, response)
