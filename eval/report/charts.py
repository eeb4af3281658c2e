"""The figures of a study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from eval.analysis.frontier import find_frontier
from eval.analysis.intervals import LEVEL, Interval
from eval.analysis.over_optimisation import BestOfPoint
from eval.analysis.segments import PositionBin
from eval.analysis.views import Cost, ResultRow
from eval.report.chart import Chart, Point, Series
from eval.report.findings import Findings, PoolFindings
from eval.report.table import Colours, interval_text
from eval.report.tables import COSTS

Value = Callable[[ResultRow], Interval | None]

_HOLLOW = (
    "Hollow: an upper bound; the divergence may be less. Not drawn: what the table below calls too "
    "low, of too few draws, or of the target alone."
)
_BARS = f"Bars: {100 * LEVEL:.0f} % intervals."
_COST_NOTES = {
    Cost.REWARD_CALLS: "Methods that ask for no reward are counted the calls of the record."
}
_FRONTIER = 19  # grey, dashed
_TITLES = {"score": "Score", "reward": "Reward", "kl": "KL to the policy"}


def make_charts(found: Findings, colours: Colours) -> list[Chart]:
    """Makes all charts that have a point."""

    def kl(row: ResultRow) -> Interval | None:
        return found.divergences[row.configuration.name].best

    values: Mapping[str, tuple[str, Value]] = {
        "score": ("mean score", lambda row: row.score),
        "reward": ("mean reward", lambda row: row.reward),
        "kl": ("KL, nats", kl),
    }
    made = [
        _against_cost(found, colours, key, *values[key], cost)
        for key, cost in (
            ("score", Cost.DRAWN_TOKENS),
            ("reward", Cost.DRAWN_TOKENS),
            ("score", Cost.SECONDS),
            ("reward", Cost.SECONDS),
            ("score", Cost.REWARD_CALLS),
            ("kl", Cost.DRAWN_TOKENS),
        )
        if cost in found.study.costs
    ]
    made += [_against_kl(found, colours, key, *values[key], kl) for key in ("reward", "score")]
    made += _best_of_n(found.pool)
    made += [
        _by_position(found, colours, "acceptance", "accepted, %", lambda p: p.acceptance_rate),
        _by_position(found, colours, "waste", "tokens wasted, %", lambda p: p.waste),
    ]
    return [chart for chart in made if chart.series]


def _against_cost(
    found: Findings, colours: Colours, key: str, name: str, value: Value, cost: Cost
) -> Chart:
    def point(row: ResultRow) -> Point | None:
        y, x = value(row), row.usage.get(cost, 0.0)
        if y is None or x <= 0:
            return None
        is_bound = key == "kl" and found.divergences[row.configuration.name].is_bound
        return replace(_point(row.configuration.name, x, y, COSTS[cost]), is_bound=is_bound)

    return Chart(
        key=f"{key}-{COSTS[cost].replace(' ', '-')}",
        title=f"{_TITLES[key]} against {COSTS[cost]}",
        note=f"{_BARS} {_HOLLOW if key == 'kl' else _COST_NOTES.get(cost, '')}".strip(),
        x_name=f"{COSTS[cost]} per answer",
        y_name=name,
        series=list(_series(found, colours, point)),
        logarithmic=True,
    )


def _against_kl(
    found: Findings, colours: Colours, key: str, name: str, value: Value, kl: Value
) -> Chart:
    reached: dict[tuple[float, float], Point] = {}

    def point(row: ResultRow) -> Point | None:
        y, x = value(row), kl(row)
        if y is None or x is None:
            return None
        is_bound = found.divergences[row.configuration.name].is_bound
        made = replace(_point(row.configuration.name, x.mean, y, "nats"), is_bound=is_bound)
        reached[made.x, made.y] = made
        return made

    series = list(_series(found, colours, point))
    best = [reached[place] for place in find_frontier(list(reached))]
    if len(best) > 1:
        series.append(
            Series(name="frontier", number=_FRONTIER, is_method=False, has_marks=False, points=best)
        )
    return Chart(
        key=f"{key}-kl",
        title=f"{_TITLES[key]} against KL to the policy",
        note=f"{_BARS} {_HOLLOW}",
        x_name="KL to the policy, nats",
        y_name=name,
        series=series,
        logarithmic=False,
    )


def _best_of_n(pool: PoolFindings | None) -> list[Chart]:
    if pool is None:
        return []

    def series(name: str, number: int, value: Callable[[BestOfPoint], Interval]) -> Series:
        return Series(
            name=name,
            number=number,
            points=[
                _point(
                    f"{name}, n = {point.n}", point.n, value(point), f"n, KL {point.kl:.3g} nats"
                )
                for point in pool.curve.points
            ],
        )

    ticks = [float(point.n) for point in pool.curve.points]
    mark = (float(pool.curve.peak), f"score peaks at n = {pool.curve.peak}")
    return [
        Chart(
            key="best-of-n-score",
            title="Gold score of best-of-n from one pool",
            x_name="n",
            y_name="mean score",
            series=[
                series("picked", 0, lambda point: point.score),
                series("oracle", 9, lambda point: point.oracle),
            ],
            logarithmic=True,
            ticks=ticks,
            mark=mark,
        ),
        Chart(
            key="best-of-n-reward",
            title="Reward of best-of-n from one pool",
            x_name="n",
            y_name="mean reward",
            series=[series("picked", 0, lambda point: point.reward)],
            logarithmic=True,
            ticks=ticks,
            mark=mark,
        ),
    ]


def _by_position(
    found: Findings,
    colours: Colours,
    key: str,
    name: str,
    value: Callable[[PositionBin], float],
) -> Chart:
    methods = {row.configuration.name: row.configuration.method for row in found.rows}
    return Chart(
        key=f"{key}-by-position",
        title=f"{key.capitalize()} by position in the answer",
        x_name="kept tokens",
        y_name=name,
        series=[
            Series(
                name=method,
                number=colours[method],
                points=[
                    Point(
                        x=(one.start + one.end - 1) / 2,
                        y=100 * value(one),
                        low=100 * value(one),
                        high=100 * value(one),
                        tip=f"{run}: {100 * value(one):.1f} % of {one.num_proposals} proposals "
                        f"after {one.start} to {one.end - 1} tokens",
                    )
                    for one in bins
                ],
            )
            for run, bins in found.positions.items()
            for method in [methods[run]]
        ],
        logarithmic=False,
    )


def _series(
    found: Findings, colours: Colours, point: Callable[[ResultRow], Point | None]
) -> Iterator[Series]:
    """A series for each method that has points, by size."""
    methods = sorted({row.configuration.method for row in found.rows})
    for method in methods:
        sizes: Sequence[ResultRow] = sorted(
            (row for row in found.rows if row.configuration.method == method),
            key=lambda row: row.configuration.size,
        )
        points = [made for row in sizes if (made := point(row)) is not None]
        if points:
            yield Series(name=method, number=colours[method], points=points)


def _point(name: str, x: float, y: Interval, unit: str) -> Point:
    tip = f"{name}: {interval_text(y)} at {x:,.4g} {unit}"
    low, high = (y.low, y.high) if y.is_known else (y.mean, y.mean)
    return Point(x=x, y=y.mean, low=low, high=high, tip=tip)
