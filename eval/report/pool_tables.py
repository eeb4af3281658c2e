"""Tables of the largest pool of plain draws."""

from eval.analysis.intervals import Interval
from eval.report.findings import PoolFindings
from eval.report.table import Table, amount, count, interval, number, share, words


def best_of_n(pool: PoolFindings | None) -> Table:
    """Best-of-n for every n, and where it turns down."""
    notes = []
    if pool:
        curve = pool.curve
        low, high = curve.peak_range
        largest = curve.points[-1].n
        notes = [
            f"From the pools of {pool.configuration.name}, averaged over all subsets of n. KL by "
            "formula, nats. Oracle: pass@n, unbiased.",
            f"The mean score is highest at n = {curve.peak} (95 % of the resamples: {low} to "
            f"{high}). In {100 * curve.turned:.0f} % of the resamples it is highest before "
            f"n = {largest}.",
        ]
    return Table(
        key="best-of-n",
        title="Best-of-n from one pool",
        notes=notes,
        columns=["n", "KL", "drawn tokens", "reward", "score", "oracle"],
        rows=[
            [
                words(str(point.n)),
                number(point.kl),
                amount(point.tokens),
                interval(point.reward),
                interval(point.score),
                interval(point.oracle),
            ]
            for point in (pool.curve.points if pool else ())
        ],
    )


def verifier(pool: PoolFindings | None) -> Table:
    """The reward as a verifier."""
    found = pool.verifiers if pool else ()
    penalty = found[0].penalty if found else 1.0
    return Table(
        key="verifier",
        title="The reward as a verifier",
        notes=[
            "Draw until one answer has a reward of at least the threshold, and abstain if none "
            "has. False positives: wrong candidates that pass. Accuracy: with the whole pool; more "
            "draws of the same kind can only answer more items.",
            f"Sample cap: the number of draws of greatest utility, where a right answer counts 1, "
            f"a wrong one -{penalty:g} and none 0; 0 means that answering nothing is best. It is "
            "exact for these pools and seeks no further than their size.",
        ],
        columns=[
            *("quantile", "threshold", "false positives", "true positives", "wrong among passed"),
            *("items answered", "accuracy", "sample cap", "utility at cap", "utility of all"),
        ],
        rows=[
            [
                words(f"{one.quantile:g}"),
                number(one.threshold),
                share(one.false_positive_rate),
                share(one.true_positive_rate),
                share(one.wrong_share),
                share(one.answered),
                share(one.accuracy),
                words(str(one.sample_cap)),
                number(one.utility),
                number(one.full_utility),
            ]
            for one in found
        ],
    )


def lengths(pool: PoolFindings | None) -> Table:
    """What goes with length."""
    named: list[tuple[str, Interval | None]] = []
    if pool:
        named = [
            ("reward and length", pool.lengths.reward),
            ("score and length", pool.lengths.score),
            ("reward and score", pool.lengths.reward_score),
        ]
    return Table(
        key="lengths",
        title="Rank correlations within items",
        notes=[
            "Spearman's, among the candidates of an item, the mean over the items that have one. A "
            "reward that likes length more than the score does invites long answers.",
        ],
        columns=["of", "correlation", "items"],
        rows=[
            [words(name), interval(value), count(value.num_items if value else 0)]
            for name, value in named
        ],
    )
