"""Everything that is computed from a study, once, for tables and figures alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import false_discovery_control

from eval.analysis import items
from eval.analysis.configuration import Configuration, best_of_n, by_method, largest_pool
from eval.analysis.frontier import Divergence, estimate_divergence
from eval.analysis.intervals import RESAMPLES
from eval.analysis.length import LengthCorrelation, length_correlation
from eval.analysis.oracle import OracleGap, oracle_gap
from eval.analysis.over_optimisation import Curve, best_of_curve
from eval.analysis.paired import Comparison, compare
from eval.analysis.segments import PositionBin, bin_positions
from eval.analysis.verifier import Verifier, evaluate_verifiers
from eval.analysis.views import Cost, ResultRow, compare_at_equal_cost, make_rows
from eval.report.studies import Study


@dataclass(frozen=True, slots=True)
class Paired:
    """The comparison of a configuration with the reference.

    Attributes:
        configuration: what is compared.
        comparison: item by item.
        adjusted: the p-value for the number of such comparisons in the same view of the study
            (Benjamini & Hochberg 1995).
    """

    configuration: Configuration
    comparison: Comparison
    adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFindings:
    """What the largest pool of plain draws tells.

    Attributes:
        configuration: whose candidates they are.
        curve: of best-of-n.
        verifiers: the reward with some thresholds.
        lengths: what goes with length.
    """

    configuration: Configuration
    curve: Curve
    verifiers: Sequence[Verifier]
    lengths: LengthCorrelation


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that is computed from one study. Mappings are by `Configuration.name`.

    Attributes:
        study: what they are of.
        rows: one for each configuration, the best first.
        references: what a configuration is compared with, sizes of plain best-of-N in ascending
            order; absent where there is none, and for best-of-N itself.
        equal_cost: scores against the reference at an equal cost, where it was run at such a one.
        same_size: scores against the reference of the same nominal size, whatever both cost.
        divergences: KL to the policy.
        gaps: oracle against picked.
        pool: None without a pool, or without scores.
        positions: of the largest size of each method that proposes parts of answers.
    """

    study: Study
    rows: Sequence[ResultRow]
    references: Mapping[str, Sequence[Configuration]]
    equal_cost: Mapping[Cost, Sequence[Paired]]
    same_size: Sequence[Paired]
    divergences: Mapping[str, Divergence]
    gaps: Mapping[str, OracleGap]
    pool: PoolFindings | None
    positions: Mapping[str, Sequence[PositionBin]]


def analyse_study(study: Study, *, resamples: int = RESAMPLES) -> Findings:
    """Computes everything that the page shows of a study.

    Args:
        study: with at least one configuration.
        resamples: of every interval and test.
    """
    ranked = make_rows(study.configurations, resamples=resamples)
    all_of = [row.configuration for row in ranked]
    by_limits = best_of_n(all_of)
    names_of_references = {one.name for sizes in by_limits.values() for one in sizes}
    references = {
        one.name: by_limits[one.size.limited_by]
        for one in all_of
        if one.size.limited_by in by_limits and one.name not in names_of_references
    }
    others = [one for one in all_of if one.name in references]
    gaps = {one.name: oracle_gap(one, resamples=resamples) for one in all_of}
    return Findings(
        study=study,
        rows=ranked,
        references=references,
        equal_cost={
            cost: _paired(
                (one, compare_at_equal_cost(one, references[one.name], cost, resamples=resamples))
                for one in others
            )
            for cost in study.costs
        },
        same_size=_paired(
            (one, _at_same_size(one, references[one.name], resamples)) for one in others
        ),
        divergences={one.name: estimate_divergence(one, resamples=resamples) for one in all_of},
        gaps={name: gap for name, gap in gaps.items() if gap is not None},
        pool=_pool(all_of, resamples),
        positions=_positions(all_of),
    )


def _at_same_size(
    one: Configuration, reference: Sequence[Configuration], resamples: int
) -> Comparison | None:
    by_size = {other.size: other for other in reference}
    if one.size not in by_size:
        return None
    against = by_size[one.size].records
    kept = items.shared_answers(one.records, against)
    sides = [items.keep_answers(records, kept) for records in (one.records, against)]
    if not all(map(items.is_graded, sides)):
        return None
    return compare(*map(items.scores, sides), resamples=resamples)


def _paired(compared: Iterable[tuple[Configuration, Comparison | None]]) -> list[Paired]:
    """Keeps what could be compared, with p-values adjusted for each other."""
    found = [(one, comparison) for one, comparison in compared if comparison is not None]
    if not found:
        return []
    adjusted = false_discovery_control([comparison.p_value for _, comparison in found])
    return [
        Paired(one, comparison, float(p))
        for (one, comparison), p in zip(found, adjusted, strict=True)
    ]


def _pool(configurations: Sequence[Configuration], resamples: int) -> PoolFindings | None:
    pool = largest_pool(configurations)
    if pool is None or not items.is_graded(pool.records):
        return None
    curve = best_of_curve(pool.records, resamples=resamples)
    if curve is None:
        return None
    return PoolFindings(
        configuration=pool,
        curve=curve,
        verifiers=evaluate_verifiers(pool.records),
        lengths=length_correlation(pool.records, resamples=resamples),
    )


def _positions(configurations: Sequence[Configuration]) -> dict[str, list[PositionBin]]:
    found = {}
    for sizes in by_method(configurations).values():
        bins = bin_positions(sizes[-1].records)
        if any(bin_.start > 0 for bin_ in bins):
            found[sizes[-1].name] = bins
    return found
