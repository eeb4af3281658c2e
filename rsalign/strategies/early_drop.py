"""EarlyDrop: a pool of answers, of which the unpromising ones are dropped as they grow.

Law      No target. Given the draws all is deterministic: `n` answers are drawn to the length
         `first`; of those that are still open, the share `keep` with the highest partial reward
         (rounded up) goes on to a length `growth` times as great, and so on. Complete ones are
         never dropped. The answer is what `answer` chooses from all complete ones. With keep = 1
         this is `BestOf`.
Paper    speculative rejection: Sun et al. 2024, arXiv:2410.20290.
Departs  Lengths and shares are settings; the published code drops as many answers as the memory of
         the GPU demands, so that its law depends on the card.
Cost     with keep = 1/2 and growth = 2 about n `first` tokens for each doubling of the length, in
         place of n whole answers; a reward for each open answer in each round.
Streams  what all answers that are left begin with.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import above, at_least, check_settings
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.search import NONE_ALLOWED, SEARCH_NOTES, Search, choose_complete, ranking
from rsalign.segments.segmenters import MOST, FixedSize
from rsalign.selectors.by_reward import Hard
from rsalign.selectors.protocol import SELECTOR, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyDrop:
    """Draws `n` answers, and drops the worst of those that are not complete at growing lengths.

    If a budget ends the run early, `answer` chooses among the answers that are complete by then.

    Notes: those of `Beam`.

    Attributes:
        n: number of answers at the start.
        first: length in tokens at which answers are dropped first.
        growth: factor from one such length to the next, above 1.
        keep: share of the open answers that goes on, above 0; at least one does.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        answer: the selector that chooses among the complete answers.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = EarlyDrop(n=8, first=2, max_tokens=8)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.outputs[0].reward == max(output.alignment.diagnostics["rewards"])
        True
    """

    n: int = 16
    first: int = 32
    growth: float = 2.0
    keep: float = 0.5
    max_tokens: int = 256
    answer: Selector = field(default_factory=Hard)

    varies_by_policy_alone: ClassVar[bool] = True
    trace_kind: ClassVar[TraceKind] = "population"
    note_meanings: ClassVar[dict[str, str]] = SEARCH_NOTES

    def __post_init__(self) -> None:
        check_settings(
            self,
            n=at_least(1),
            first=at_least(1, MOST),
            growth=above(1.0, 1e6),
            keep=above(0.0, 1.0),
            max_tokens=at_least(1),
            answer=SELECTOR,
        )

    @property
    def parallel_draws(self) -> int:
        """All answers of the first round."""
        return self.n

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws and drops until all answers that are left are complete, and chooses one."""
        search = Search(prompt=prompt, run=run, max_tokens=self.max_tokens)

        async def choose(complete: list[Candidate]) -> Candidate | None:
            return await choose_complete(prompt, complete, self.answer, run, search.num_rounds)

        async def answer_so_far() -> Candidate | None:
            return await choose(search.complete_so_far())

        run.trace.answer_by(answer_so_far)
        copies = 1 if run.has_one_answer(f"1 answer was drawn instead of {self.n}") else self.n
        before, length = 0, self.first
        while search.open:
            # the last lengths need no end of their own
            ends = length < self.max_tokens and max(copies, len(search.open)) > 1
            drafts = await search.draw(FixedSize(length - before) if ends else None, copies)
            is_open = [i for i in ranking(drafts) if not drafts[i].response.complete]
            search.take(drafts, is_open[: math.ceil(self.keep * len(is_open))], copies)
            search.commit()
            copies, before, length = 1, length, max(length + 1, math.ceil(length * self.growth))
        chosen = await choose(search.complete)
        if chosen is None:
            return run.abstain(prompt, NONE_ALLOWED)
        run.trace.commit(chosen.tokens[len(run.trace.committed) :])
        return chosen
