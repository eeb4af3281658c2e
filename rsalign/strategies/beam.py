"""Beam: step beam search, the `width` prefixes of highest partial reward go on.

Law      No target: the prefixes are selected by their rewards, not drawn. Given the drafts all is
         deterministic: in each round every open prefix has `branch` drafts of its next segment from
         pi (the first round has width branch of them), and of all drafts those of highest reward
         take the places that are free, of `width` places. A complete draft that takes a place keeps
         it. The answer is what `answer` chooses from all complete drafts, with or without a place.
Paper    step beam search against a process reward: Snell et al. 2024, arXiv:2408.03314; Beeching et
         al. 2024 (search-and-learn).
Departs  A complete answer is never dropped because open ones score higher, never drawn on, and
         never copied. Unfinished prefixes are no answers: the search ends with complete ones. It
         works for one prompt or many.
Cost     width branch drafts and rewards a round, at most. Drafts of one prefix share it in the
         prefix cache.
Streams  what all drafts that go on, and all complete ones, begin with.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
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
class Beam:
    """Grows answers segment by segment and keeps the best `width` of ``width * branch`` drafts.

    If a budget ends the run early, `answer` chooses among the drafts that are complete by then.

    Notes: ``num_rounds``, ``num_complete``, ``rewards`` of the complete answers, and those of the
    selector.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        width: number of prefixes that go on.
        branch: drafts of each of them.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        answer: the selector that chooses among the complete answers.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Beam(width=2, branch=2, segmenter=FixedSize(2), max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.outputs[0].reward == max(output.alignment.diagnostics["rewards"])
        True
    """

    segmenter: Boundary
    width: int = 4
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
            width=at_least(1),
            branch=at_least(1),
            max_tokens=at_least(1),
            answer=SELECTOR,
        )

    @property
    def parallel_draws(self) -> int:
        """The drafts of a round."""
        return self.width * self.branch

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Searches until the places are taken by complete answers, and chooses one."""
        search = Search(prompt=prompt, run=run, max_tokens=self.max_tokens)

        async def choose(complete: list[Candidate]) -> Candidate | None:
            return await choose_complete(prompt, complete, self.answer, run, search.num_rounds)

        async def answer_so_far() -> Candidate | None:
            return await choose(search.complete_so_far())

        run.trace.answer_by(answer_so_far)
        is_stuck = run.has_one_answer(f"1 beam was drawn instead of {self.width}")
        width, branch = (1, 1) if is_stuck else (self.width, self.branch)
        await search_beams(search, self.segmenter, width=width, branch=branch, streams=True)
        chosen = await choose(search.complete)
        if chosen is None:
            return run.abstain(prompt, NONE_ALLOWED)
        run.trace.commit(chosen.tokens[len(run.trace.committed) :])
        return chosen
