"""The drawings of a page. Each takes plain records and depends on no strategy."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rsalign.report.canvas import Axis, Canvas, axis_spanning

_WIDTH, _LEFT, _RIGHT = 760.0, 52.0, 748.0
_NUM_COLOURS = 6
_FEW_STEPS = 100
_MOST_STATES = 400  # of a line: more cannot be told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A proposal in a drawing.

    Attributes:
        x: number of the step, or of tokens.
        reward: in the reward's units.
        kind: its verdict, which is a class of the style sheet.
        tip: text of its tooltip.
        href: link to more about it; empty if there is none.
    """

    x: float
    reward: float
    kind: str
    tip: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class RewardLine:
    """The rewards of the states of one chain.

    Attributes:
        rewards: of the start and of the state after each step, ``(steps + 1,)``.
        dots: the proposals of the chain.
    """

    rewards: Sequence[float]
    dots: Sequence[Dot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One step of a chain, drawn as a column of tokens.

    Attributes:
        step: its number, from 1.
        kept: number of tokens before the cut.
        length: number of tokens of the proposal.
        before: number of tokens of the state before the step.
        kind: the verdict, which is a class of the style sheet.
    """

    step: int
    kept: int
    length: int
    before: int
    kind: str


def colour(index: int) -> str:
    """The style class of the colour of chain `index`."""
    return f"chain-{index % _NUM_COLOURS}"


def reward_trace(
    lines: Sequence[RewardLine], *, first: int = 0, burn_in: int = 0, last: int
) -> Markup:
    """Draws rewards over steps: states as lines, proposals as dots.

    Args:
        lines: one per chain.
        first: the step that the drawing begins with.
        burn_in: number of first states that do not count; they are shaded.
        last: the last step that counts; later ones are shaded too.
    """
    canvas = Canvas(_WIDTH, 236, "reward over steps")
    most = max(len(line.rewards) - 1 for line in lines)
    values = [reward for line in lines for reward in line.rewards[first:]]
    values += [dot.reward for line in lines for dot in line.dots]
    x, y = Axis(first, max(most, first + 1), _LEFT, _RIGHT - 6), axis_spanning(values, 210, 24)
    for start, end in ((first, min(burn_in, most)), (last, most)):
        if start < end:
            canvas.rect(x.at(start), y.end, x.at(end) - x.at(start), y.start - y.end, "unused")
    canvas.axes(x, y, x_name="step", y_name="reward")
    for i, line in enumerate(lines):
        steps = range(first, len(line.rewards), -(-len(line.rewards) // _MOST_STATES))
        points: list[tuple[float, float]] = []
        height = 0.0
        for step in steps:
            points += [(x.at(step), height)] if points else []
            height = y.at(line.rewards[step])
            points.append((x.at(step), height))
        canvas.line(points, f"states {colour(i)}")
    radius = 3.0 if most <= _FEW_STEPS else 1.8
    for i, line in enumerate(lines):
        for dot in line.dots:
            kind = f"{dot.kind} {colour(i)}"
            place = x.at(dot.x), y.at(dot.reward)
            canvas.dot(*place, kind, tip=dot.tip, href=dot.href, radius=radius)
    return canvas.svg()


def cuts(columns: Sequence[Cut], *, num_steps: int) -> Markup:
    """Draws one column for each step: the kept tokens, and above them the new ones.

    Args:
        columns: the steps at which something was drawn.
        num_steps: number of all steps.
    """
    canvas = Canvas(_WIDTH, 118, "where cuts fell, step by step")
    most = max(max(column.length, column.before) for column in columns)
    x, y = Axis(0.5, num_steps + 0.5, _LEFT, _RIGHT), Axis(0, most, 94, 18)
    canvas.axes(x, y, x_name="step", y_name="tokens", whole=True)
    width = min((x.at(2) - x.at(1)) * 0.78, 26.0)
    for column in columns:
        left, cut = x.at(column.step) - width / 2, y.at(column.kept)
        tip = (
            f"step {column.step}: {column.kept} of {column.before} tokens kept, "
            f"{column.length - column.kept} drawn, {column.kind}"
        )
        canvas.rect(left, cut, width, y.start - cut, "kept", tip=tip)
        canvas.rect(
            left, y.at(column.length), width, cut - y.at(column.length), column.kind, tip=tip
        )
        before = y.at(column.before)
        canvas.line([(left, before), (left + width, before)], "before")
    return canvas.svg()


def acceptance(tried: Sequence[float], accepted: Sequence[float]) -> Markup:
    """Draws cuts, and those with an accepted proposal, by tenths of the length of the state."""
    canvas = Canvas(420, 150, "acceptance by cut position")
    x, y = Axis(0, len(tried), _LEFT, 412), Axis(0, max(1, *tried), 124, 34)
    canvas.axes(Axis(0, 100, _LEFT, 412), y, x_name="cut, %", y_name="steps", whole=True)
    for i, (number, taken) in enumerate(zip(tried, accepted, strict=True)):
        left, width = x.at(i) + 2, x.at(1) - x.at(0) - 4
        tip = f"{taken:.0f} of {number:.0f} accepted"
        canvas.rect(left, y.at(number), width, y.start - y.at(number), "rejected", tip=tip)
        canvas.rect(left, y.at(taken), width, y.start - y.at(taken), "accepted", tip=tip)
        if number:
            share = f"{100 * taken / number:.0f}%"
            canvas.text(left + width / 2, y.at(number) - 4, share, "middle")
    return canvas.svg()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One segment in the drawing of a tree.

    Attributes:
        start: number of tokens before it.
        end: number of tokens up to its end.
        parent: lane of the prefix that it continues.
        lane: its own lane, from 0.
        kind: its verdict, which is a class of the style sheet.
        tip: text of its tooltip.
        complete: whether the answer ends with it.
    """

    start: int
    end: int
    parent: float
    lane: float
    kind: str
    tip: str
    complete: bool


def tree(branches: Sequence[Branch]) -> Markup:
    """Prefixes that grow from left to right; each line is a segment, each dot its end."""
    lanes = max(branch.lane for branch in branches) + 1
    top, height = 10.0, min(14.0, 420 / lanes) * lanes
    canvas = Canvas(_WIDTH, top + height + 24, "prefixes by their length")
    x = Axis(0, max(branch.end for branch in branches), _LEFT, _RIGHT)
    y = Axis(-0.5, lanes - 0.5, top, top + height)
    for value in x.ticks(8):
        if value == round(value):
            canvas.text(x.at(value), top + height + 16, f"{value:.0f}", "middle")
    canvas.text(_LEFT - 6, top + height + 16, "tokens", "end")
    for branch in branches:
        bend = branch.start + 0.3 * (branch.end - branch.start)
        points = [(branch.start, branch.parent), (bend, branch.lane), (branch.end, branch.lane)]
        canvas.line([(x.at(a), y.at(b)) for a, b in points], f"branch {branch.kind}")
    for branch in branches:
        radius = 4 if branch.complete else 2.5
        place = x.at(branch.end), y.at(branch.lane)
        canvas.dot(*place, f"dot {branch.kind}", tip=branch.tip, radius=radius)
    return canvas.svg()


def rewards_by_length(dots: Sequence[Dot], threshold: Sequence[tuple[float, float]]) -> Markup:
    """Draws the drafts of an answer over its length, and the threshold that they had to reach.

    Args:
        dots: the drafts, by number of tokens.
        threshold: points (number of tokens, reward); empty if it is not known.
    """
    canvas = Canvas(_WIDTH, 236, "rewards of drafts by their length")
    values = [dot.reward for dot in dots] + [reward for _, reward in threshold]
    x, y = Axis(0, max(dot.x for dot in dots), _LEFT, _RIGHT - 6), axis_spanning(values, 210, 24)
    canvas.axes(x, y, x_name="tokens", y_name="reward")
    if threshold:
        canvas.line([(x.at(length), y.at(bar)) for length, bar in threshold], "threshold")
    taken = [dot for dot in dots if dot.kind != "rejected"]
    canvas.line([(x.at(dot.x), y.at(dot.reward)) for dot in taken], "states chain-0")
    for dot in [*(dot for dot in dots if dot.kind == "rejected"), *taken]:
        canvas.dot(x.at(dot.x), y.at(dot.reward), dot.kind, tip=dot.tip, href=dot.href, radius=4)
    return canvas.svg()


def reward_strip(dots: Sequence[Dot]) -> Markup:
    """Draws the rewards of a pool on one axis; `Dot.x` is not used."""
    canvas = Canvas(_WIDTH, 74, "rewards of all candidates")
    x = axis_spanning([dot.reward for dot in dots], 12, _RIGHT)
    canvas.line([(x.start, 40), (x.end, 40)], "grid")
    for value in x.ticks(8):
        canvas.text(x.at(value), 60, f"{value:.6g}", "middle")
    canvas.text(x.start, 16, "reward")
    for dot in sorted(dots, key=lambda dot: dot.kind == "accepted"):
        radius = 6 if dot.kind == "accepted" else 5
        canvas.dot(x.at(dot.reward), 40, dot.kind, tip=dot.tip, href=dot.href, radius=radius)
    return canvas.svg()
