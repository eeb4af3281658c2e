"""The tables of a study."""

from collections.abc import Sequence

from eval.analysis.configuration import Configuration
from eval.analysis.intervals import LEVEL
from eval.analysis.views import Cost
from eval.report.findings import Findings, Paired
from eval.report.policy_tables import divergences, likelihoods
from eval.report.pool_tables import best_of_n, lengths, verifier
from eval.report.table import (
    NOTHING,
    Cell,
    Colours,
    Table,
    amount,
    count,
    difference,
    interval,
    name_cells,
    number,
    p_value,
    share,
    words,
)

COSTS = {
    Cost.DRAWN_TOKENS: "drawn tokens",
    Cost.REWARD_CALLS: "reward calls",
    Cost.SECONDS: "seconds",
}
_COST_NOTES = {
    Cost.REWARD_CALLS: (
        "Where a run has a reward, every draw is judged for the record and counted here, also for "
        "methods that ask for no reward (plain draws, votes that no reward weighs, minimum Bayes "
        "risk, self-certainty). Run without one they make no calls at all, so of them this view "
        "says nothing.",
    ),
    Cost.SECONDS: (
        "Seconds are those of an answer while the engine answers the job's other items beside it.",
    ),
}
_PAIRED = (
    "Items on which the score is higher, equal or lower; the difference of the means; p of a "
    "sign-flip test, two-sided, and adjusted for the rows of this table (Benjamini and Hochberg)."
)
_PAIRED_COLUMNS = ("wins", "ties", "losses", "difference", "p", "adjusted p")


def make_tables(found: Findings, colours: Colours, *, resamples: int) -> list[Table]:
    """Makes all tables that have a row."""
    made = [
        results(found, colours, resamples),
        *(equal_cost(found, colours, cost) for cost in found.study.costs),
        same_size(found, colours),
        divergences(found, colours),
        likelihoods(found, colours),
        best_of_n(found.pool),
        oracle(found, colours),
        verifier(found.pool),
        lengths(found.pool),
        positions(found, colours),
        groups(found, colours),
        costs(found, colours),
    ]
    return [table for table in made if table.rows]


def results(found: Findings, colours: Colours, resamples: int) -> Table:
    """What each configuration achieved."""
    at_equal_tokens = {one.configuration.name: one for one in found.equal_cost[Cost.DRAWN_TOKENS]}
    return Table(
        key="results",
        title="All configurations",
        notes=[
            f"The best score first. Intervals: {100 * LEVEL:.0f} %, over items; the seeds of an "
            "item are averaged. Of scores Wilson's at the effective number of items; of rewards "
            f"Student's and the bootstrap's (BCa, {resamples} resamples, seeded), whichever end "
            "is farther.",
            f"Against best-of-N: the difference in score to {_reference(found)} at equal drawn "
            "tokens, paired by item; coloured where its adjusted p, in the table of that name, is "
            f"below {1 - LEVEL:.2f}. Ungradable and failed answers count as score 0, and so do "
            "tied ones, which the grader marked as neither better nor worse. Cut: ended by the "
            "greatest length. Expired: ended by a hard limit. Costs are means per answer.",
        ],
        columns=[
            *("method", "answers' worth", "score", "against best-of-N", "reward"),
            *(COSTS[cost] for cost in found.study.costs),
            *(
                "items",
                "answers",
                "cut",
                "coverage",
                "ungradable",
                "tied",
                "failed",
                "forced",
                "expired",
            ),
        ],
        rows=[
            [
                *name_cells(row.configuration),
                interval(row.score),
                _difference(at_equal_tokens.get(row.configuration.name)),
                interval(row.reward),
                *(amount(row.usage.get(cost)) for cost in found.study.costs),
                count(row.num_items),
                count(row.num_answers),
                share(row.cut),
                share(1 - row.abstained),
                count(row.num_ungradable),
                count(row.num_tied),
                count(row.num_failed),
                share(row.forced),
                share(row.expired),
            ]
            for row in found.rows
        ],
        series=[colours[row.configuration.method] for row in found.rows],
        num_names=2,
    )


def equal_cost(found: Findings, colours: Colours, cost: Cost) -> Table:
    """Scores against plain best-of-N where that costs the same."""
    compared = {one.configuration.name: _compared(one) for one in found.equal_cost[cost]}
    nothing = [Cell(NOTHING)] * len(_PAIRED_COLUMNS)
    shown = [row for row in found.rows if row.configuration.name in found.references]
    return Table(
        key=f"equal-{COSTS[cost].replace(' ', '-')}",
        title=f"Against best-of-N at equal {COSTS[cost]}",
        notes=[
            f"Against {_reference(found)} where it costs the same; between two of its sizes its "
            "scores are interpolated, item by item, linearly in the logarithm of the cost, so that "
            "an item is rarely a tie where its two sizes differ. Nothing is said where best-of-N "
            "was not run at such a cost.",
            *_COST_NOTES.get(cost, ()),
            _PAIRED,
        ],
        columns=["method", "answers' worth", COSTS[cost], *_PAIRED_COLUMNS],
        rows=[
            [
                *name_cells(row.configuration),
                amount(row.usage.get(cost)),
                *compared.get(row.configuration.name, nothing),
            ]
            for row in shown
        ],
        series=[colours[row.configuration.method] for row in shown],
        num_names=2,
    )


def same_size(found: Findings, colours: Colours) -> Table:
    """Item by item against best-of-N of the same nominal size."""
    tokens = {row.configuration.name: row.usage.get(Cost.DRAWN_TOKENS) for row in found.rows}
    return Table(
        key="same-size",
        title="Against best-of-N of the same nominal size",
        notes=[
            f"Against {_reference(found)} of the same budget, as it was given, which is no equal "
            "cost: some methods spend far less of it than best-of-N. Both costs are here.",
            _PAIRED,
        ],
        columns=[
            *("method", "answers' worth", "drawn tokens", "best-of-N's drawn tokens"),
            *_PAIRED_COLUMNS,
        ],
        rows=[
            [
                *name_cells(one.configuration),
                amount(tokens[one.configuration.name]),
                amount(tokens[_of_same_size(found, one.configuration).name]),
                *_compared(one),
            ]
            for one in found.same_size
        ],
        series=[colours[one.configuration.method] for one in found.same_size],
        num_names=2,
    )


def oracle(found: Findings, colours: Colours) -> Table:
    """The best candidates that there were, next to the answers that were picked."""
    shown = [row for row in found.rows if row.configuration.name in found.gaps]
    gaps = [found.gaps[row.configuration.name] for row in shown]
    return Table(
        key="oracle",
        title="Oracle gap",
        notes=[
            "The best score among the whole responses that were considered (pass@N for pools of "
            "plain draws), the answer's score, and their difference: what a perfect choice would "
            "add. Of a chain those are its proposals and its answer; the other draws that it "
            "starts from are not among them.",
        ],
        columns=[
            *("method", "answers' worth", "candidates", "mean candidate", "picked", "oracle"),
            "gap",
        ],
        rows=[
            [
                *name_cells(row.configuration),
                amount(gap.num_candidates),
                number(gap.candidate),
                number(gap.picked),
                number(gap.oracle),
                interval(gap.gap),
            ]
            for row, gap in zip(shown, gaps, strict=True)
        ],
        series=[colours[row.configuration.method] for row in shown],
        num_names=2,
    )


def positions(found: Findings, colours: Colours) -> Table:
    """Acceptance and waste along the answer."""
    methods = {row.configuration.name: row.configuration for row in found.rows}
    shown = [
        (methods[name], position) for name, bins in found.positions.items() for position in bins
    ]
    return Table(
        key="positions",
        title="Acceptance and waste by position",
        notes=[
            "Proposals by the number of tokens that were kept before them, at each method's "
            "largest size. Wasted: share of the drawn tokens that were not taken.",
        ],
        columns=[
            *("method", "answers' worth", "kept tokens", "proposals", "accepted", "forced"),
            *("tokens drawn", "wasted"),
        ],
        rows=[
            [
                *name_cells(one),
                words(f"{position.start} to {position.end - 1}"),
                count(position.num_proposals),
                share(position.acceptance_rate),
                share(position.num_forced / position.num_proposals),
                amount(position.drawn_tokens),
                share(position.waste),
            ]
            for one, position in shown
        ],
        series=[colours[one.method] for one, _ in shown],
        num_names=2,
    )


def groups(found: Findings, colours: Colours) -> Table:
    """Scores by group of items."""
    names = sorted({group for row in found.rows for group in row.scores_by_group})
    if len(names) < 2:
        names = []
    shown = found.rows if names else []
    return Table(
        key="groups",
        title="Scores by group",
        notes=["Mean scores of the groups that the task has."],
        columns=["method", "answers' worth", *names],
        rows=[
            [*name_cells(row.configuration), *(number(row.scores_by_group.get(n)) for n in names)]
            for row in shown
        ],
        series=[colours[row.configuration.method] for row in shown],
        num_names=2,
    )


def costs(found: Findings, colours: Colours) -> Table:
    """Everything that was spent."""
    fields = list(dict.fromkeys(name for row in found.rows for name in row.usage))
    return Table(
        key="costs",
        title="Costs in full",
        notes=[
            "Means per answer. Cached: of the prompt tokens, what the engine's cache had. "
            "Replayed: draws that a journal had; seconds are of answers without any."
        ],
        columns=["method", "answers' worth", *(name.replace("_", " ") for name in fields)],
        rows=[
            [*name_cells(row.configuration), *(amount(row.usage.get(name)) for name in fields)]
            for row in found.rows
        ],
        series=[colours[row.configuration.method] for row in found.rows],
        num_names=2,
    )


def _compared(one: Paired) -> Sequence[Cell]:
    """Cells under `_PAIRED_COLUMNS`."""
    return (
        count(one.comparison.wins),
        count(one.comparison.ties),
        count(one.comparison.losses),
        _difference(one),
        p_value(one.comparison.p_value),
        p_value(one.adjusted),
    )


def _difference(one: Paired | None) -> Cell:
    return Cell(NOTHING) if one is None else difference(one.comparison.difference, one.adjusted)


def _reference(found: Findings) -> str:
    """Names what configurations are compared with."""
    names = dict.fromkeys(sizes[0].method for sizes in found.references.values())
    return " or ".join(names) or "best-of-N"


def _of_same_size(found: Findings, one: Configuration) -> Configuration:
    return next(other for other in found.references[one.name] if other.size == one.size)
