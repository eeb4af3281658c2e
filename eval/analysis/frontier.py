"""How far from the policy each configuration went: KL(law of the answer || policy), nats.

By formula for best-of-N, by the pool for other selectors, by log Z for tilted samplers, by the
number of tries for rejection sampling; 0 for plain draws. Which of these holds is declared by the
strategy, and each record has it (`rsalign.core.capabilities.AnswerLaw`). All but the tries are
noted by the strategies themselves; here they are averaged over items. What is biased, or is no
divergence of the answer's own law, is kept apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.analysis import items
from eval.analysis.acceptance import accepted_kl, is_too_low
from eval.analysis.configuration import Configuration
from eval.analysis.intervals import RESAMPLES, Interval, mean_interval
from rsalign.core.capabilities import AnswerLaw

FEWEST_DRAWS = 16
"""Independent draws of a prompt that an estimate of ln Z rests on, at least.

The logarithm of a mean over n draws is too low by about v / 2n, where v is the variance of w / Z:
with one or two draws that is as much as the divergence itself, and averaging over items and seeds
takes none of it away.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Estimates of KL(answer || policy), nats. Each is None where it does not apply.

    Attributes:
        formula: of best-of-N, if no two rewards are equal and no response has much mass; an upper
            bound otherwise (`rsalign.selectors.estimators.best_of_kl`, `top_kl`).
        estimator: from the selection probabilities on each pool; its mean is an upper bound, and
            loose for a deterministic choice (`rsalign.selectors.estimators.pool_kl`).
        log_z: of the tilted law that a chain aims at, E[r / beta] - ln Z, where the answer is a
            state of it.
        target: the same where the answer is elected from the states: it has another law, which
            goes further.
        has_few_draws: whether neither is told, since ln Z rests on fewer than `FEWEST_DRAWS`.
        tries: of what rejection sampling accepted (`eval.analysis.acceptance`).
        low_tries: the same where too many answers are left out: too low.
        is_given_target: whether those are of the law given a target that is drawn for each answer.
            On average they bound the answer's from above: a divergence is convex.
    """

    formula: Interval | None = None
    estimator: Interval | None = None
    log_z: Interval | None = None
    target: Interval | None = None
    has_few_draws: bool = False
    tries: Interval | None = None
    low_tries: Interval | None = None
    is_given_target: bool = False

    @property
    def best(self) -> Interval | None:
        """The tightest estimate for the law of the answer itself; charts show this one."""
        return self.formula or self.log_z or self.tries or self.estimator

    @property
    def is_bound(self) -> bool:
        """Whether `best` is only an upper bound: from the pool, or given a target."""
        best = self.best
        return best is not None and (
            best is self.estimator or (best is self.tries and self.is_given_target)
        )

    @property
    def is_known(self) -> bool:
        """Whether any estimate is there, or a reason why there is none."""
        return bool(self.best or self.target or self.has_few_draws or self.low_tries)


def estimate_divergence(configuration: Configuration, *, resamples: int = RESAMPLES) -> Divergence:
    """Estimates the divergence by what the strategy declares of the law of its answers.

    Nothing is told of a strategy whose `AnswerLaw` is unknown: the notes of a pool of other
    strategies' answers, say, refer to those and not to the policy.
    """
    law, records = configuration.answer_law, configuration.records

    def over_items(found: items.ByItem) -> Interval | None:
        return mean_interval(found, resamples=resamples) if found else None

    def noted(name: str) -> Interval | None:
        return over_items(items.diagnostic(records, name))

    def formula() -> Interval | None:
        values = items.diagnostic(records, "kl_formula")
        if len(set(values.values())) == 1:  # it follows from the strategy's settings alone
            return Interval.exact(next(iter(values.values())), len(values))
        return over_items(values)

    if law is AnswerLaw.POLICY:
        return Divergence(formula=Interval.exact(0.0, len(items.scores(records))))
    if law is AnswerLaw.UNKNOWN:
        return Divergence()
    log_z, tries = noted("kl"), over_items(items.by_item(records, accepted_kl))
    # a chain notes no KL where its draws cannot tell; the mean of the others would be too low
    is_untold = any(record["diagnostics"].get("kl", 0.0) is None for record in records)
    is_few = is_untold or (log_z is not None and configuration.independent_draws < FEWEST_DRAWS)
    is_low = tries is not None and is_too_low(records)
    return Divergence(
        formula=formula(),
        estimator=noted("kl_estimate"),
        log_z=log_z if law is AnswerLaw.CHAIN_STATE and not is_few else None,
        target=log_z if law is AnswerLaw.CHAIN_ELECTION and not is_few else None,
        has_few_draws=is_few,
        tries=None if is_low else tries,
        low_tries=tries if is_low else None,
        is_given_target=law is AnswerLaw.REJECTION_GIVEN_TARGET,
    )


def find_frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keeps the points that no other beats in value at the same or a smaller divergence.

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
