"""What chains leave behind: their steps, and a weighted sample of responses."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rsalign.chains.kernel import LogWeight, Step
from rsalign.chains.metropolis import tempered
from rsalign.core.types import Candidate, Tokens
from rsalign.selectors.estimators import effective_sample_size, tilted_weights


@dataclass(slots=True)
class History:
    """One chain at the target of the strategy itself, without its tempered replicas.

    Attributes:
        start: the first state.
        steps: the steps, in order.
        swaps: for each step but the first, whether the state was exchanged with that of the next
            replica before it; empty without replicas.
    """

    start: Candidate
    steps: list[Step] = field(default_factory=list)
    swaps: list[bool] = field(default_factory=list)

    def states(self, burn_in: int = 0) -> list[Candidate]:
        """The start and the state after each step, repeats included, but the first `burn_in`."""
        return [self.start, *(step.state for step in self.steps)][burn_in:]

    def allowed_states(self, burn_in: int = 0) -> list[Candidate]:
        """The states that no constraint excludes (`Candidate.excluded`)."""
        return [state for state in self.states(burn_in) if not state.excluded]

    def keep(self, num_steps: int) -> None:
        """Drops all steps after the first `num_steps`."""
        del self.steps[num_steps:]
        del self.swaps[num_steps - 1 :]


def allowed_rewards(draws: Iterable[Candidate]) -> list[float]:
    """The rewards of the draws that no constraint excludes."""
    return [draw.reward for draw in draws if not draw.excluded]


@dataclass(frozen=True, slots=True)
class WeightedSample:
    """Distinct responses with weights, which estimate a distribution.

    Attributes:
        candidates: in the order in which they were first seen, ``(candidates,)``.
        weights: number of draws that each stands for, not negative, ``(candidates,)``.

    Example:
        >>> from rsalign.testing import example_pool
        >>> _, (a, b), _ = example_pool(0.0, 1.0)
        >>> merge_weighted([(a, 1.0), (b, 2.0), (a, 1.0)]).mean([0.0, 1.0])
        0.5
    """

    candidates: tuple[Candidate, ...]
    weights: tuple[float, ...]

    def mean(self, values: Sequence[float]) -> float:
        """The weighted mean of one value per candidate."""
        total = sum(self.weights)
        shares = (weight / total for weight in self.weights)
        return sum(share * value for share, value in zip(shares, values, strict=True))


def merge_weighted(parts: Iterable[tuple[Candidate, float]]) -> WeightedSample:
    """Merges weighted responses into one sample; weights of equal tokens are added."""
    first: dict[Tokens, Candidate] = {}
    weights: dict[Tokens, float] = {}
    for candidate, weight in parts:
        if weight > 0:
            first.setdefault(candidate.tokens, candidate)
            weights[candidate.tokens] = weights.get(candidate.tokens, 0.0) + weight
    return WeightedSample(tuple(first.values()), tuple(weights.values()))


def collect_sample(
    histories: Sequence[History],
    *,
    burn_in: int,
    recycle: bool,
    log_weight: LogWeight,
    pool: Sequence[Candidate] = (),
    pool_weights: Sequence[float] = (),
) -> WeightedSample:
    """A weighted sample of the target from the chains and the pool that they were started from.

    Each step counts as one draw: its state has weight 1. If proposals are recycled, the state and
    all proposals of the step share that weight instead, in proportion to the probability of each to
    be the next state. The mean over the choice of the state is the same, so that the estimate stays
    unbiased, and no proposal is wasted. A pool counts as many draws as its effective sample size.

    Args:
        histories: of the chains, at least one; they may differ in length.
        burn_in: number of first states of each chain that do not count.
        recycle: whether proposals count.
        log_weight: ln w of the target pi w. A state that the target excludes, where a chain may
            have started, counts only if there is nothing else, and never if a constraint excludes
            it: the sample is then empty.
        pool: independent draws of the policy that chains were started from by resampling.
        pool_weights: of the target on the pool, summing to 1, ``(pool,)``.
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
    parts = [part for part in parts if not part[0].excluded]
    return merge_weighted([part for part in parts if log_weight(part[0]) > -math.inf] or parts)


def pool_weights(
    draws: Sequence[Candidate], log_weight: LogWeight, factor: float = 1.0
) -> tuple[float, ...]:
    """Self-normalised weights of the target on draws of the policy; equal if all are excluded."""
    logs = [tempered(log_weight(draw), factor) for draw in draws]
    if max(logs) == -math.inf:
        return (1 / len(draws),) * len(draws)
    return tilted_weights(logs, 1.0)
