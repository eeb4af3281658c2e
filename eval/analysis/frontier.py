"""How far from the policy each configuration went: KL(law of the answer || policy), nats.

By formula for best-of-N, by the pool for other selectors, by log Z for tilted samplers, by the
number of tries for rejection sampling; 0 for plain draws. All but the tries are noted by the
strategies themselves; here they are averaged over items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.analysis import items
from eval.analysis.acceptance import accepted_kl
from eval.analysis.bootstrap import RESAMPLES, Interval, mean_interval
from eval.analysis.configuration import Configuration
from eval.analysis.naming import is_best_of_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """KL to the policy, by what is known of a strategy. Each is None where it does not apply.

    Attributes:
        formula: of best-of-N, if no two rewards are equal and no response has much mass; an upper
            bound otherwise (`rsalign.rules.estimators.best_of_kl`, `top_kl`).
        estimator: from the selection probabilities on each pool; its mean is an upper bound, and
            loose for a deterministic choice (`rsalign.rules.estimators.pool_kl`).
        log_z: of the tilted law that the sampler aims at, E[r / beta] - ln Z. An answer that is
            then elected from its draws goes further.
        tries: of what rejection sampling accepted (`eval.analysis.acceptance`).
    """

    formula: Interval | None = None
    estimator: Interval | None = None
    log_z: Interval | None = None
    tries: Interval | None = None

    @property
    def best(self) -> Interval | None:
        """The tightest that there is."""
        return self.formula or self.log_z or self.tries or self.estimator

    @property
    def is_bound(self) -> bool:
        """Whether that is no more than an upper bound from the pool."""
        return self.best is not None and self.best is self.estimator


def divergence(configuration: Configuration, *, resamples: int = RESAMPLES) -> Divergence:
    """What is known of a configuration; nothing for strategies that note nothing of the kind.

    A pool of anything but plain draws tells nothing: its notes refer to what it holds.
    """
    strategy, records = configuration.strategy, configuration.records

    def over_items(found: items.ByItem) -> Interval | None:
        values = list(found.values())
        return mean_interval(values, resamples=resamples) if values else None

    def noted(name: str) -> Interval | None:
        return over_items(items.diagnostic(records, name))

    if strategy["class"] == "Plain":
        return Divergence(formula=mean_interval([0.0] * len(items.scores(records))))
    if strategy["class"] == "BestOf" and not is_best_of_plain(strategy):
        return Divergence()
    return Divergence(
        formula=noted("kl_formula"),
        estimator=noted("kl_estimate"),
        log_z=noted("kl"),
        tries=over_items(items.by_item(records, accepted_kl)),
    )


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats: none has as much value for as little divergence.

    Args:
        points: of (divergence, value), ``(points,)``.

    Returns:
        A subset, the least divergence first.
    """
    kept: list[tuple[float, float]] = []
    for kl, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or value > kept[-1][1]:
            kept.append((kl, value))
    return kept
