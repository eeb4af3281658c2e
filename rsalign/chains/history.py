"""What chains leave behind: their steps, and the weighted responses that answers rest on."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rsalign.chains.kernel import LogWeight, Step
from rsalign.core.types import Candidate, Tokens
from rsalign.selectors.estimators import effective_sample_size


@dataclass(slots=True)
class History:
    """One chain at the strategy's own target.

    Attributes:
        start: its first state.
        steps: what came then.
        swaps: whether its state was exchanged with the next replica's, before each step but the
            first; empty without replicas.
    """

    start: Candidate
    steps: list[Step] = field(default_factory=list)
    swaps: list[bool] = field(default_factory=list)

    def states(self, burn_in: int = 0) -> list[Candidate]:
        """The states with their repeats, the first included, without the first `burn_in`."""
        return [self.start, *(step.state for step in self.steps)][burn_in:]

    def keep(self, num_steps: int) -> None:
        """Forgets all later steps."""
        del self.steps[num_steps:]
        del self.swaps[num_steps - 1 :]


@dataclass(frozen=True, slots=True)
class Sample:
    """Responses that stand for a law, each once.

    Attributes:
        candidates: in the order they were first seen, ``(candidates,)``.
        weights: of each, not negative, in units of one draw, ``(candidates,)``.
    """

    candidates: tuple[Candidate, ...]
    weights: tuple[float, ...]

    def mean(self, values: Sequence[float]) -> float:
        """The weighted mean of one value per candidate."""
        total = sum(self.weights)
        shares = (weight / total for weight in self.weights)
        return sum(share * value for share, value in zip(shares, values, strict=True))


def joined(parts: Iterable[tuple[Candidate, float]]) -> Sample:
    """One sample of weighted responses; those with the same tokens become one."""
    first: dict[Tokens, Candidate] = {}
    weights: dict[Tokens, float] = {}
    for candidate, weight in parts:
        if weight > 0:
            first.setdefault(candidate.tokens, candidate)
            weights[candidate.tokens] = weights.get(candidate.tokens, 0.0) + weight
    return Sample(tuple(first.values()), tuple(weights.values()))


def collected(
    histories: Sequence[History],
    *,
    burn_in: int,
    recycle: bool,
    log_weight: LogWeight,
    pool: Sequence[Candidate] = (),
    pool_weights: Sequence[float] = (),
) -> Sample:
    """What chains and the pool they started from tell about the target.

    A step counts as one draw. If it is recycled, this is shared by all that were considered, in
    proportion to the probability of each to come next: their mean over the choice is the state
    itself, so that nothing is biased and no proposal is wasted. A pool counts as many draws as its
    effective sample size.

    Args:
        histories: at least one; of the same length or not.
        burn_in: states of each chain that do not count.
        recycle: whether proposals count.
        log_weight: ln w; a state that the target excludes, where a chain has started, counts only
            if there is nothing else.
        pool: independent draws of the policy that chains were started from by resampling.
        pool_weights: of the target, summing to 1, ``(pool,)``.
    """
    parts: list[tuple[Candidate, float]] = []
    if pool:
        size = effective_sample_size(pool_weights)
        parts += [(one, size * w) for one, w in zip(pool, pool_weights, strict=True)]
    for history in histories:
        if not pool and burn_in == 0:
            parts.append((history.start, 1.0))
        for step in history.steps[max(0, burn_in - 1) :]:
            if recycle:
                parts += zip(step.considered, step.probs, strict=True)
            else:
                parts.append((step.state, 1.0))
    return joined([part for part in parts if log_weight(part[0]) > -math.inf] or parts)
