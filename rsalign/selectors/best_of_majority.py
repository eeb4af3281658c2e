"""BestOfMajority: the highest reward among the answers that are frequent enough.

Law      the candidate with the highest reward (the first among equals) among those whose answer
         has at least `share` of all n candidates; if there is none, among those with the most
         frequent answer (ties as in `rsalign.selectors.ballot`).
Paper    Di et al. 2025, arXiv:2510.03199 (one answer is returned: k = 1).
Departs  the paper leaves open what happens if no answer is frequent enough.
Cost     none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import above, check_settings
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.ballot import ballot
from rsalign.selectors.extraction import EXTRACTOR, Extract
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfMajority:
    """The highest reward among answers with at least `share` of the candidates.

    More draws do not make it worse: a rare answer that the reward is wrong about stays out.

    Attributes:
        extract: what of a text is its answer (see `rsalign.selectors.extraction`).
        share: of all candidates, those without an answer included; above 0 and at most 1.

    Raises:
        ConfigError: if `extract` cannot be called, or `share` is not in (0, 1].
    """

    extract: Extract
    share: float

    def __post_init__(self) -> None:
        share = above(0.0, 1.0, note="it is the share of the candidates that an answer must have")
        check_settings(self, extract=EXTRACTOR, share=share)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Draws nothing."""
        votes = ballot(candidates, self.extract)
        frequent = [i for i, share in enumerate(votes.shares) if share >= self.share]
        chosen = max(frequent, key=votes.rewards.__getitem__) if frequent else votes.elect()
        notes = votes.notes(chosen) | {"num_frequent": len(frequent)}
        return certain(chosen, len(candidates), notes)
