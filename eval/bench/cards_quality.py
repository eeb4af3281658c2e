"""Tables of segments, rewards and right answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum, nan, sqrt
from statistics import fmean, stdev

from eval.bench.measured import Looped, MeasuredRow, asked_alike
from rsalign.aligner import AlignedOutput
from rsalign.core.types import Candidate
from rsalign.embedded.problems import Problem


@dataclass(frozen=True, slots=True)
class Worth:
    """What answers are worth, and the tokens drawn for one; means."""

    reward: float
    right: float
    drawn: float


def segments(cards: Sequence[MeasuredRow], looped: Sequence[Looped]) -> Iterator[str]:
    """How segments came about: the same for every m and, up to chance, in the loop."""
    first, *others = cards
    looped = asked_alike(first, looped)
    ours = _rates(
        num_answers=len(first.flat),
        num_tokens=sum(len(answer.outputs[0].token_ids) for answer in first.flat),
        num_segments=_noted(first, "num_segments"),
        num_tested=_noted(first, "num_proposals"),
        num_forced=_noted(first, "num_forced"),
        num_with_forced=sum(answer.alignment.forced for answer in first.flat),
    )
    theirs = _rates(
        num_answers=len(looped),
        num_tokens=sum(len(one.candidate.tokens) for one in looped),
        num_segments=sum(one.spent.num_segments for one in looped),
        num_tested=sum(one.spent.num_tested for one in looped),
        num_forced=sum(one.spent.num_forced for one in looped),
        num_with_forced=sum(one.spent.num_forced > 0 for one in looped),
    )
    yield ""
    yield f"{'segments':<30}{'cards':>10}{'the loop':>10}"
    for name in ours:
        yield f"{name:<30}{ours[name]:>10.2f}{theirs[name]:>10.2f}"
    for row in others:
        same = sum(
            one.outputs[0].token_ids == other.outputs[0].token_ids
            for one, other in zip(first.flat, row.flat, strict=True)
        )
        unused = _noted(row, "unused_drafts") / len(row.flat)
        yield (
            f"{row.name}: {same} of {len(row.flat)} answers are those of m = 1; "
            f"{unused:.1f} drafts an answer were begun for nothing"
        )


def quality(
    cards: Sequence[MeasuredRow], best_ofs: Sequence[MeasuredRow], looped: Sequence[Looped]
) -> Iterator[str]:
    """Reward and right answers, and those of best-of-n where it draws as many tokens.

    A larger pool begins with the draws of a smaller one, so that the largest one has them all. A
    number of tokens between those of two sizes belongs to a mixture of both.
    """
    pools = _pools(best_ofs[-1])
    problems, repeats = cards[0].problems, len(cards[0].answers)
    yield ""
    yield (
        f"{f'{len(problems)} problems, {repeats} answers each':<32}{'tokens drawn':>14}"
        f"{'reward':>16}{'right':>16}"
    )
    yield _line("plain", pools[0])
    for n in (2, 4, 8, 16, 32):
        if n <= len(pools):
            yield _line(f"best of {n}", pools[n - 1])
    yield _line(cards[0].name, _worths(cards[0]))
    for row in cards:
        ours = _worths(row)
        size, matched = _at(pools, row.drawn)
        better = [
            Worth(our.reward - their.reward, our.right - their.right, their.drawn)
            for our, their in zip(ours, matched, strict=True)
        ]
        yield _line(f"{row.name} less best of {size:.2f}", better)
    looped = asked_alike(cards[0], looped)
    asked = {one.problem.question for one in looped}
    yield _line(f"the loop, {len(looped)} problems", _looped(looped))
    same = [
        worth
        for problem, worth in zip(problems, _worths(cards[0]), strict=True)
        if problem.question in asked
    ]
    yield _line(f"{cards[0].name}, on those", same)


def _noted(row: MeasuredRow, name: str) -> float:
    """The sum of one of the strategy's notes over all answers."""
    return fsum(float(str(answer.alignment.diagnostics[name])) for answer in row.flat)


def _rates(
    *,
    num_answers: int,
    num_tokens: int,
    num_segments: float,
    num_tested: float,
    num_forced: float,
    num_with_forced: int,
) -> dict[str, float]:
    return {
        "segments of an answer": num_segments / num_answers,
        "tokens of a segment": num_tokens / num_segments,
        "drafts tested for a segment": num_tested / num_segments,
        "share of drafts accepted": (num_segments - num_forced) / num_tested,
        "share of segments forced": num_forced / num_segments,
        "share of answers with some": num_with_forced / num_answers,
    }


def _worths(row: MeasuredRow) -> list[Worth]:
    """Of each problem, over the repeats, ``(problems,)``."""
    return [
        _mean(
            [
                Worth(
                    float(answer.outputs[0].reward or 0.0),
                    problem.grade(answer.outputs[0].text),
                    answer.alignment.usage.policy_tokens_drawn,
                )
                for answer in answers
            ]
        )
        for problem, answers in zip(row.problems, zip(*row.answers, strict=True), strict=True)
    ]


def _looped(looped: Sequence[Looped]) -> list[Worth]:
    """Of each problem that the loop answered."""
    return [
        Worth(
            one.candidate.reward,
            one.problem.grade(one.candidate.response.text),
            one.spent.tokens_drawn,
        )
        for one in looped
    ]


def _pools(row: MeasuredRow) -> list[list[Worth]]:
    """The same of the best of the first 1, 2, ... draws, ``(sizes, problems)``."""
    by_problem = [
        [_mean(of_size) for of_size in zip(*(_nested(problem, a) for a in answers), strict=True)]
        for problem, answers in zip(row.problems, zip(*row.answers, strict=True), strict=True)
    ]
    return [list(of_size) for of_size in zip(*by_problem, strict=True)]


def _nested(problem: Problem, answer: AlignedOutput) -> Iterator[Worth]:
    """The best of the first 1, 2, ... candidates of one answer."""
    best: Candidate | None = None
    drawn = 0.0
    for proposal in answer.alignment.trace.proposals:
        drawn += len(proposal.candidate.tokens)
        if best is None or proposal.candidate.reward > best.reward:
            best = proposal.candidate
        yield Worth(best.reward, problem.grade(best.response.text), drawn)


def _at(pools: Sequence[Sequence[Worth]], drawn: float) -> tuple[float, list[Worth]]:
    """A size, and what it is worth, ``(problems,)``, at which as many tokens are drawn.

    At least the smallest pool and at most the largest.
    """
    by_size = [_mean(worths).drawn for worths in pools]
    above = next((i for i, tokens in enumerate(by_size) if tokens >= drawn), len(pools) - 1)
    if above == 0 or by_size[above] < drawn:
        return above + 1.0, list(pools[above])
    share = (drawn - by_size[above - 1]) / (by_size[above] - by_size[above - 1])
    return above + share, [
        Worth(
            *(
                (1 - share) * getattr(small, name) + share * getattr(large, name)
                for name in Worth.__slots__
            )
        )
        for small, large in zip(pools[above - 1], pools[above], strict=True)
    ]


def _mean(worths: Sequence[Worth]) -> Worth:
    return Worth(
        fmean(worth.reward for worth in worths),
        fmean(worth.right for worth in worths),
        fmean(worth.drawn for worth in worths),
    )


def _line(name: str, worths: Sequence[Worth]) -> str:
    """Means over problems, with standard errors."""
    columns = (_with_error([getattr(worth, f) for worth in worths]) for f in ("reward", "right"))
    return f"{name:<32}{_mean(worths).drawn:>14.1f}" + "".join(f"{each:>16}" for each in columns)


def _with_error(values: Sequence[float]) -> str:
    error = stdev(values) / sqrt(len(values)) if len(values) > 1 else nan
    return f"{fmean(values):.3f} ± {error:.3f}"
