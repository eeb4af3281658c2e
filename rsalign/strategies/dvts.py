"""Dvts: diverse verifier tree search, several step beam searches that do not compete.

Law      No target, as in `Beam`: each of `subtrees` independent searches keeps the one draft of
         highest partial reward of `branch` in each round, until that one is complete. The answer is
         what `answer` chooses from all complete drafts of all searches.
Paper    Beeching et al. 2024 (search-and-learn).
Departs  Every answer is complete; complete drafts that were not the best of their round are kept
         as candidates for the answer. Subtrees do not wait for each other.
Cost     subtrees branch drafts and rewards a round.
Streams  at the end.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.search import (
    NONE_ALLOWED,
    SEARCH_NOTES,
    Search,
    choose_complete,
    search_beams,
)
from rsalign.selectors.by_reward import Hard
from rsalign.selectors.protocol import SELECTOR, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Dvts:
    """Runs `subtrees` greedy searches side by side and chooses among their complete answers.

    If a budget ends the run early, `answer` chooses among the drafts that are complete by then.

    Notes: those of `Beam`.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        subtrees: number of searches.
        branch: drafts of each search in a round, of which one goes on.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        answer: the selector that chooses among the complete answers.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Dvts(subtrees=2, branch=2, segmenter=FixedSize(2), max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["num_complete"] >= 2
        True
    """

    segmenter: Boundary
    subtrees: int = 4
    branch: int = 4
    max_tokens: int = 256
    answer: Selector = field(default_factory=Hard)

    varies_by_policy_alone: ClassVar[bool] = True
    trace_kind: ClassVar[TraceKind] = "population"
    note_meanings: ClassVar[dict[str, str]] = SEARCH_NOTES

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            subtrees=at_least(1),
            branch=at_least(1),
            max_tokens=at_least(1),
            answer=SELECTOR,
        )

    @property
    def parallel_draws(self) -> int:
        """The drafts of a round of all subtrees."""
        return self.subtrees * self.branch

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Searches all subtrees and chooses one of their complete answers."""
        is_stuck = run.has_one_answer(f"1 subtree was searched instead of {self.subtrees}")
        subtrees, branch = (1, 1) if is_stuck else (self.subtrees, self.branch)
        searches = [
            Search(prompt=prompt, run=run.at("subtree", i), max_tokens=self.max_tokens)
            for i in range(subtrees)
        ]

        async def answer_so_far() -> Candidate | None:
            complete = [one for search in searches for one in search.complete_so_far()]
            rounds = max(search.num_rounds for search in searches)
            return await choose_complete(prompt, complete, self.answer, run, rounds)

        run.trace.answer_by(answer_so_far)
        await concurrently(
            search_beams(search, self.segmenter, width=1, branch=branch, streams=False)
            for search in searches
        )
        chosen = await answer_so_far()
        if chosen is None:
            return run.abstain(prompt, NONE_ALLOWED)
        run.trace.commit(chosen.tokens)
        return chosen
