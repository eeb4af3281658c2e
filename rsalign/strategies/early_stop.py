"""EarlyStop: independent draws until their vote is clear, at most n.

Law      Rounds of `batch` inner draws (the first of `at_least`, if that is more), numbered as
         `BestOf` numbers them, until the answer that leads the vote among all draws has at least
         `share` of the vote's weight; n draws at most. Whether to go on depends on the draws so far
         alone. The pool is therefore the first k of n independent draws, where k is a stopping
         time, and the answer is what `select` chooses from it:
         P(y) = sum_k P(stops after k, y is chosen among these k).
         With `stopping` it stops when that test of the votes says so, instead of at a share. With
         `DecidedLead(error)`, the probability of stopping before n draws with most votes for an
         answer that is not the most probable one is at most `error` (Ville's inequality).
         With share = 1 it stops when all agree. This is not the law of n draws: an answer that
         leads early by chance may win. Draws that a constraint excludes have no vote and no weight.
Paper    Aggarwal et al. 2023, arXiv:2305.11860 (adaptive consistency); Li et al. 2024,
         arXiv:2401.10480 (share = 1 in a window of `batch` draws). `BetaLead` and `DirichletLead`
         are the stopping rules of the former.
Departs  The share is that of the selector's own weights (self-certainty, reward or probability),
         and of all draws, not of the last window.
Cost     k inner draws; those of one round at once. If the policy has one possible answer, one draw.
Streams  at the end.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import (
    AnswerLaw,
    TraceKind,
    answer_law,
    cuts_answers,
    parallel_draws,
    varies_by_policy_alone,
)
from rsalign.core.checks import above, at_least, check_settings, part, setting_error
from rsalign.core.protocols import Strategy
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.leads import Lead
from rsalign.selectors.protocol import SELECTOR, Selection, Selector
from rsalign.strategies.plain import Plain
from rsalign.strategies.pool import POOL_NOTES, STRATEGY, Pool, any_needs_reward, require_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """Draws candidates in rounds and stops as soon as one answer has a clear share of the votes.

    If a budget ends the run early, the vote is among the candidates that are finished by then
    (`rsalign.strategies.pool.Pool`).

    Notes: ``num_draws``, and those of `BestOf`.

    Attributes:
        select: a selector that votes, such as `SelfCertainty` or `MajorityVote`.
        n: greatest number of draws. With the same seed they are the first draws of `BestOf`.
        share: the share of the vote's weight at which it stops, above 0 and at most 1. The weight
            of draws without an answer counts in the whole.
        stopping: a test of the votes that says when it stops, instead of `share`:
            `DecidedLead(error)` with a stated error level, `BetaLead` or `DirichletLead`. Each
            candidate has one vote, whatever the weights of `select`.
        at_least: fewest draws before it may stop; `n`, if that is less.
        batch: draws of one round, made at once. The share is looked at after each round.
        inner: the strategy that draws each candidate.

    Raises:
        ConfigError: if a number is out of its range, `inner` cannot sample, or `select` does not
            vote.

    Example:
        >>> from rsalign import Aligner, LastNumber, MajorityVote
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = EarlyStop(select=MajorityVote(extract=LastNumber()), n=8, share=0.5)
        >>> with Aligner(ToyPolicy(), None, strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["num_draws"] <= 8
        True
    """

    select: Selector
    n: int = 16
    share: float = 0.8
    stopping: Lead | None = None
    at_least: int = 4
    batch: int = 4
    inner: Strategy = field(default_factory=Plain)

    trace_kind: ClassVar[TraceKind] = "pool"
    stops_early: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = POOL_NOTES

    def __post_init__(self) -> None:
        check_settings(
            self,
            select=SELECTOR,
            n=at_least(1),
            share=above(0.0, 1.0),
            stopping=part("a rule such as DecidedLead(error=0.05)", note="None looks at `share`"),
            at_least=at_least(1),
            batch=at_least(1),
            inner=STRATEGY,
        )
        require_fit(self, self.inner, self.select)
        if not hasattr(self.select, "extract"):
            raise setting_error(
                self, "select", "a selector that votes, such as MajorityVote(extract=...)"
            )

    @property
    def needs_reward(self) -> bool:
        """Whether the selector or the inner strategy needs a reward."""
        return any_needs_reward(self.inner, self.select)

    @property
    def varies_by_policy_alone(self) -> bool:
        """Whether this holds for the inner strategy."""
        return varies_by_policy_alone(self.inner)

    @property
    def cuts_answers(self) -> bool:
        """Whether the inner strategy does."""
        return cuts_answers(self.inner)

    @property
    def parallel_draws(self) -> int:
        """Those of one batch, or of the first candidates if these are more."""
        return max(self.batch, self.at_least) * parallel_draws(self.inner)

    @property
    def answer_law(self) -> AnswerLaw:
        """Known if each candidate is a draw of the policy; how many there are, is not."""
        is_pool = answer_law(self.inner) is AnswerLaw.POLICY
        return AnswerLaw.POOL if is_pool else AnswerLaw.UNKNOWN

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws round by round until the vote is clear, and returns its winner."""
        pool = Pool(
            prompt,
            run,
            self.inner,
            self.select,
            select_key=lambda num_drawn: run.key.child("select", num_drawn),
        )
        most, num_drawn = pool.distinct(self.n), 0
        while True:
            until = min(most, max(self.at_least, num_drawn + self.batch))
            await pool.draw(range(num_drawn, until))
            choice = await pool.choose()
            num_drawn = until
            if num_drawn == most or self._is_clear(choice.selection):
                break
        run.trace.note(num_draws=num_drawn)
        return pool.answer(choice)

    def _is_clear(self, selection: Selection | None) -> bool:
        if self.stopping is None:
            return _vote_share(selection) >= self.share
        answers = None if selection is None else selection.notes.get("answers")
        return isinstance(answers, tuple) and self.stopping.decided([*map(_vote, answers)])


def _vote(answer: object) -> str | None:
    return None if answer is None else str(answer)


def _vote_share(selection: Selection | None) -> float:
    """The share of all votes that the chosen answer has; 0 if no candidate has an answer."""
    if selection is None:  # nothing drawn so far is allowed
        return 0.0
    shares = selection.notes.get("vote_shares")
    return float(shares[selection.index] or 0) if isinstance(shares, tuple) else 0.0
