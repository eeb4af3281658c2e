"""Allocated: a total number of draws for many prompts; a rule says which prompt draws next.

Law      Given that a prompt gets k draws, its candidates are the first k draws of `inner` at that
         prompt's address, and its answer is what ``inner.select`` chooses from them. So it equals
         ``replace(inner, n=k)`` with the same seed, draw by draw. k is a stopping time: whether a
         prompt draws again depends on what all prompts of the call have drawn before, and on
         nothing that has not been drawn yet:
         P(y) = sum_k P(the prompt gets k draws, y is chosen among them).
         The draws of all prompts together are exactly `total`, unless a prompt fails, is ended by
         its budget, or has one possible answer. `rsalign.allocation.board` says how rounds work.
Paper    By rule: `rsalign.allocation.rules`.
Cost     `total` inner draws in rounds of `batch`. A round lasts as long as its longest draw, and
         prompts that are not drawn wait: a large batch keeps an engine busier, and a small one
         decides on more knowledge.
Streams  at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rsalign.allocation.allocation import check_allocation
from rsalign.allocation.board import Board
from rsalign.allocation.rules import AllocationRule, Uniform
from rsalign.core.capabilities import (
    AnswerLaw,
    TraceKind,
    answer_law,
    cuts_answers,
    needs_reward,
    parallel_draws,
)
from rsalign.core.checks import check_settings, part, quote, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.strategies.best_of import BestOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated:
    """Shares a total number of draws among the prompts of a call.

    ``generate(prompts, strategy=inner, allocation=Allocation(...))`` is the same as
    ``generate(prompts, strategy=Allocated(inner=inner, ...))``. A prompt that is answered alone, as
    by a server, gets all draws.

    Notes: ``num_draws``, and those of `BestOf`.

    Attributes:
        inner: draws the pools and chooses. Its ``n`` is what a prompt gets on average, and does not
            limit any prompt.
        rule: says which prompt draws next.
        total: draws of all prompts together; None: the inner ``n`` for each prompt.
        at_least: draws of each prompt before the rule decides.
        batch: draws between two decisions of the rule; None: as many as there are prompts.

    Raises:
        ConfigError: if a number is out of its range, `rule` has no `urgency`, or the rule reads
            answers and ``inner.select`` has no extractor.

    Example:
        >>> from rsalign import Aligner, BestOf, LastNumber, MajorityVote
        >>> from rsalign.allocation import Blend
        >>> from rsalign.testing import ToyPolicy
        >>> vote = BestOf(n=4, select=MajorityVote(extract=LastNumber()))
        >>> with Aligner(ToyPolicy(), None, Allocated(inner=vote, rule=Blend())) as aligner:
        ...     outputs = aligner.generate(["1 2", "2 1 1"], use_tqdm=False)
        >>> sum(output.alignment.diagnostics["num_draws"] for output in outputs)
        8
    """

    inner: BestOf = field(default_factory=BestOf)
    rule: AllocationRule = field(default_factory=Uniform)
    total: int | None = None
    at_least: int = 1
    batch: int | None = None

    trace_kind: ClassVar[TraceKind] = "pool"
    stops_early: ClassVar[bool] = True
    answers_together: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = {
        "num_draws": "draws that the allocation gave to this prompt"
    }

    def __post_init__(self) -> None:
        check_settings(self, inner=part("BestOf(...), whose pool can grow"))
        check_allocation(self)
        if getattr(self.rule, "needs_answers", False) and not hasattr(self.inner.select, "extract"):
            raise setting_error(
                self,
                "rule",
                "a rule that reads no answers, or inner.select=MajorityVote(extract=...): "
                f"{quote(self.inner.select)} extracts none",
            )

    @property
    def needs_reward(self) -> bool:
        """Whether the inner strategy or the rule needs one."""
        return needs_reward(self.inner) or getattr(self.rule, "needs_reward", False)

    @property
    def cuts_answers(self) -> bool:
        """Whether the inner strategy does."""
        return cuts_answers(self.inner)

    @property
    def parallel_draws(self) -> int:
        """Those of the inner strategy: one prompt alone draws as that does."""
        return parallel_draws(self.inner)

    @property
    def answer_law(self) -> AnswerLaw:
        """Known if each candidate is a draw of the policy; how many there are, is not."""
        is_pool = answer_law(self.inner) in (AnswerLaw.BEST_OF, AnswerLaw.POOL)
        return AnswerLaw.POOL if is_pool else AnswerLaw.UNKNOWN

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Answers one prompt, which gets all draws."""
        total = self.total or self.inner.n
        board = Board(self.rule, total, 1, min(self.at_least, total), self.batch or total)
        return await Seated(inner=self, board=board, place=0).sample(prompt, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seated:
    """An allocated strategy for one of the prompts that share a board.

    Attributes:
        inner: the strategy.
        board: grants the draws.
        place: of the prompt on the board.
    """

    inner: Allocated
    board: Board = field(repr=False, compare=False)
    place: int

    def __getattr__(self, name: str) -> Any:
        # what it declares is what the strategy declares
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws as often as the board grants."""
        return await self.inner.inner.sample_granted(
            prompt, run, lambda drawn: self.board.more(self.place, drawn)
        )

    def leave(self) -> None:
        """Tells the board that this prompt draws no more."""
        self.board.leave(self.place)


def seat(strategies: Sequence[Strategy]) -> list[Strategy]:
    """The strategies of one call, of which those that are allocated share a board.

    Args:
        strategies: of the prompts, in order.

    Raises:
        ConfigError: if the total is too small for the prompts, or they are allocated in more ways
            than one.
    """
    allocated = [one for one in strategies if isinstance(one, Allocated)]
    if not allocated:
        return list(strategies)
    first = allocated[0]
    ways = {(one.rule, one.total, one.at_least, one.batch) for one in allocated}
    if len(ways) > 1:
        raise ConfigError(
            "the prompts of one call are allocated in different ways: give all of them the same "
            "rule, total, at_least and batch"
        )
    total = first.total or sum(one.inner.n for one in allocated)
    board = Board(first.rule, total, len(allocated), first.at_least, first.batch or len(allocated))
    places = iter(range(len(allocated)))
    return [
        Seated(inner=one, board=board, place=next(places)) if isinstance(one, Allocated) else one
        for one in strategies
    ]
