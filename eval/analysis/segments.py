"""Acceptance and waste by position in the answer."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.records import Record

NUM_BINS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBin:
    """Proposals that were begun after some number of kept tokens.

    Attributes:
        start: fewest kept tokens.
        end: one more than the most.
        num_proposals: that were drawn.
        num_accepted: of these.
        num_forced: of these, taken without being accepted.
        drawn_tokens: of the proposals, after what was kept.
        wasted_tokens: of those that were not taken.
    """

    start: int
    end: int
    num_proposals: int
    num_accepted: int
    num_forced: int
    drawn_tokens: int
    wasted_tokens: int

    @property
    def acceptance_rate(self) -> float:
        """Share of the proposals that were accepted."""
        return self.num_accepted / self.num_proposals

    @property
    def waste(self) -> float:
        """Share of the drawn tokens that were not taken."""
        return self.wasted_tokens / self.drawn_tokens if self.drawn_tokens else 0.0


def bin_positions(records: Iterable[Record], *, num_bins: int = NUM_BINS) -> list[PositionBin]:
    """Groups proposals by the number of tokens kept before them, in bins of equal width.

    What a record does not list (`eval.record.MOST_CANDIDATES`) is not counted.

    Args:
        records: of one configuration.
        num_bins: greatest number of bins.

    Returns:
        The bins, those without a proposal left out; empty if nothing was proposed.
    """
    proposals = [proposal for record in records for proposal in record["proposals"]]
    if not proposals:
        return []
    width = max(proposal["kept"] for proposal in proposals) // num_bins + 1
    bins: defaultdict[int, list[Record]] = defaultdict(list)
    for proposal in proposals:
        bins[proposal["kept"] // width].append(proposal)
    return [_position(i * width, (i + 1) * width, bins[i]) for i in sorted(bins)]


def _position(start: int, end: int, proposals: Sequence[Record]) -> PositionBin:
    verdicts = Counter(proposal["verdict"] for proposal in proposals)
    drawn = [proposal["num_tokens"] - proposal["kept"] for proposal in proposals]
    return PositionBin(
        start=start,
        end=end,
        num_proposals=len(proposals),
        num_accepted=verdicts["accepted"],
        num_forced=verdicts["forced"],
        drawn_tokens=sum(drawn),
        wasted_tokens=sum(
            tokens
            for tokens, proposal in zip(drawn, proposals, strict=True)
            if proposal["verdict"] == "rejected"
        ),
    )
