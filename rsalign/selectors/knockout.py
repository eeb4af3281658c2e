"""Knockout: a tournament in which a judge compares two responses at a time.

Law      The candidates are put into an order drawn uniformly. In each round neighbours are compared
         and the preferred one stays (of equally good ones the one with the smaller number); a
         candidate without an opponent goes first in the next round. The last one standing is the
         answer. `Selection.probs` is given the order drawn: the law over all orders would take all
         n (n - 1) / 2 comparisons.
Paper    Liu et al. 2025, arXiv:2501.13007 (a generative pairwise judge).
Departs  The judge's probability is compared with 1/2; the winner is not drawn from it.
Cost     n - 1 comparisons in ceil(log2 n) rounds, those of one round at once, counted apart as
         those of the part `judge`. If a budget ends the run first, no more are made, and the
         highest reward is returned, or the first answer if there is no reward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from rsalign.core.checks import check_settings, finite_or_none, part, quote
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Key
from rsalign.core.protocols import PairwiseReward, innermost
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class Knockout:
    """Chooses the winner of a tournament of pairwise comparisons.

    Notes: ``preferences``, the judge's probability that the winner of each comparison is better, in
    the order of the comparisons; ``num_comparisons``.

    Attributes:
        judge: compares two responses (`rsalign.core.protocols.PairwiseReward`), or the name of the
            run's part that does: ``Aligner(..., parts={"judge": ...})``. Its calls are counted in
            ``usage.parts["judge"]``, limited by ``Budget(parts=...)`` and journaled.

    Raises:
        ConfigError: if `judge` has no `prefer`.
        RewardError: in `select`, if the judge failed or its value is not between 0 and 1.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> class Longer:
        ...     async def prefer(self, prompt, one, other):
        ...         return float(len(one.text) > len(other.text))
        >>> pool = example_pool(0.0, 0.0, 0.0, texts=("a", "abc", "ab"))
        >>> asyncio.run(Knockout(judge=Longer()).select(*pool)).index
        1
    """

    judge: PairwiseReward | str = "judge"

    part_settings: ClassVar[tuple[str, ...]] = ("judge",)
    needs_reward: ClassVar[bool] = False
    asks_judge: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = {
        "preferences": "judge's probability that each winner is better",
        "num_comparisons": "calls of the judge",
    }

    def __post_init__(self) -> None:
        judge = part(
            "an object with `async prefer(prompt, one, other)`, the probability that `one` is "
            "better"
        )
        check_settings(self, judge=judge)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Draws an order, then asks the judge round by round."""
        if isinstance(self.judge, str):
            raise ConfigError(
                f"Knockout(judge={self.judge!r}) names a part of a run, which has one by `align` "
                "or an `Aligner`: give the judge itself to call `select` alone"
            )
        standing = _shuffled(len(candidates), key)
        preferences: list[float] = []
        while len(standing) > 1:
            pairs = list(zip(standing[::2], standing[1::2], strict=False))
            left_over = standing[2 * len(pairs) :]
            judged = await concurrently(
                self._ask(prompt, candidates[one].response, candidates[other].response)
                for one, other in pairs
            )
            winners = []
            for (one, other), prefer in zip(pairs, judged, strict=True):
                one_wins = prefer > 0.5 or (prefer == 0.5 and one < other)
                winners.append(one if one_wins else other)
                preferences.append(prefer if one_wins else 1 - prefer)
            standing = left_over + winners
        return certain(
            standing[0],
            len(candidates),
            {"preferences": tuple(preferences), "num_comparisons": len(preferences)},
        )

    async def _ask(self, prompt: Prompt, one: Response, other: Response) -> float:
        def failed(failure: BaseException) -> RewardError:
            return RewardError(
                f"the judge {type(innermost(self.judge)).__name__} raised "
                f"{describe_error(failure)} on {quote(one.text)} and {quote(other.text)}",
                prompt=prompt,
                response=one,
            )

        with errors_as(failed):
            given = await cast(PairwiseReward, self.judge).prefer(prompt, one, other)
            prefer = finite_or_none(given)
        if prefer is None or not 0 <= prefer <= 1:
            raise RewardError(
                f"the preference for {quote(one.text)} over {quote(other.text)} is {quote(given)}, "
                f"but must be a probability: mend "
                f"{type(innermost(self.judge)).__name__}",
                prompt=prompt,
                response=one,
            )
        return prefer


def _shuffled(n: int, key: Key) -> list[int]:
    """0 .. n - 1 in an order drawn uniformly (Fisher-Yates); each swap has its own address."""
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = key.child("swap", last).below(last + 1)
        order[last], order[other] = order[other], order[last]
    return order
