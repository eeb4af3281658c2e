"""The embedded task: word problems with chains of additions and the like, graded exactly.

A problem is a short story in which a number changes three to seven times. Its solution has one
equation per line for these changes, and ends with the answer:

    Ann has 12 coins. Ann buys 7 coins. The number of coins doubles. How many coins does Ann have?

    First 12 + 7 = 19
    Then 19 * 2 = 38
    Answer: 38

The first word of a line ("First", "Then", "Next", "So", "Now") is arbitrary: the model's entropy is
high there although every choice is correct, so it is a good place for a segment to end.

Problems are numbered: ``problem("heldout", 17)`` is the same on every machine. A hash of the
problem's *text* decides its split, so no text occurs in two splits.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rsalign.core.errors import ConfigError
from rsalign.core.key import Key

Split: TypeAlias = Literal["train", "tune", "heldout"]
"""For training models; for choosing hyperparameters and targets; for reported results."""

NUM_CHANGES = (3, 4, 5, 6, 7)
_LARGEST = 60  # every number is one token of the embedded tokenizer
_NAMES = (
    *("Ann", "Ben", "Cara", "Dan", "Eve", "Finn", "Gia", "Hugo"),
    *("Iris", "Jack", "Kim", "Leo", "Mia", "Ned", "Olga", "Pete"),
)
_ITEMS = ("coins", "apples", "books", "cards", "shells", "pens", "stamps", "beads", "eggs", "cups")
OPENERS = ("First", "Then", "Next", "So", "Now")
_CHANGES = ("buy", "find", "lose", "give", "bags", "group", "double", "half")

_NUMBER = r"[0-9]{1,18}"  # Python refuses to parse numbers with thousands of digits
_EQUATION = re.compile(rf"(?:{'|'.join(OPENERS)}) ({_NUMBER}) ([-+*/]) ({_NUMBER}) = ({_NUMBER})")
_ANSWER = re.compile(rf"Answer: (-?{_NUMBER})\s*\Z")


@dataclass(frozen=True, slots=True)
class Equation:
    """One line of a solution: ``left operator right = result``.

    Example:
        >>> str(Equation(12, "+", 7, 19))
        '12 + 7 = 19'
    """

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with its solution, which is unique up to the first words of its lines.

    Attributes:
        question: the text of the user's message.
        equations: the steps in order; a change by groups has two equations.
        answer: the last number.
        num_changes: how often the number changes, 3 to 7.

    Example:
        >>> asked = problem("heldout", 0)
        >>> asked.grade(f"Answer: {asked.answer}")
        True
    """

    question: str
    equations: tuple[Equation, ...]
    answer: int
    num_changes: int

    def solution(self, key: Key) -> str:
        """A correct solution; `key` chooses the first word of each line."""
        lines = [
            f"{OPENERS[key.child(i).below(len(OPENERS))]} {equation}"
            for i, equation in enumerate(self.equations)
        ]
        return "\n".join([*lines, f"Answer: {self.answer}"])

    def grade(self, text: str) -> bool:
        """Whether `text` ends with the correct answer, exactly."""
        return extract_answer(text) == self.answer

    def num_right_lines(self, text: str) -> int:
        """How many leading lines of `text` agree with the solution, ignoring their first words."""
        right = [str(equation) for equation in self.equations]
        count = 0
        for line in text.split("\n"):
            if count < len(right):
                found = _EQUATION.fullmatch(line)
                if found is None or str(_equation(found)) != right[count]:
                    break
            elif count > len(right) or line != f"Answer: {self.answer}":
                break
            count += 1
        return count


def extract_answer(text: str) -> int | None:
    """The number after the last "Answer:"; None if the text does not end with one."""
    found = _ANSWER.search(text)
    return int(found.group(1)) if found else None


def problem(split: Split, index: int) -> Problem:
    """Problem number `index` of a split; the same on every machine.

    The number of changes cycles through 3 .. 7 with the index, so that any run of consecutive
    problems is balanced.

    Raises:
        ConfigError: if there is no such split, or `index` is negative.
    """
    if split not in get_args(Split) or index < 0:
        raise ConfigError(
            f"no problem {index} in split {split!r}: splits are {', '.join(get_args(Split))}, "
            "and indices start at 0"
        )
    attempt = 0
    while True:
        key = Key(0, ("problem", split, index, attempt))
        made = _make(key, NUM_CHANGES[index % len(NUM_CHANGES)])
        if _split_of(made.question) == split:
            return made
        attempt += 1


def problems(split: Split, count: int, *, start: int = 0) -> list[Problem]:
    """`count` consecutive problems of a split."""
    return [problem(split, index) for index in range(start, start + count)]


def _split_of(question: str) -> Split:
    bucket = hashlib.blake2b(question.encode(), digest_size=1).digest()[0] % 10
    return "tune" if bucket == 0 else "heldout" if bucket == 1 else "train"


def _equation(found: re.Match[str]) -> Equation:
    return Equation(int(found[1]), found[2], int(found[3]), int(found[4]))


def _pick(key: Key, choices: Sequence[str]) -> str:
    return choices[key.below(len(choices))]


def _between(key: Key, low: int, high: int) -> int:
    return low + key.below(high - low + 1)


def _make(key: Key, num_changes: int) -> Problem:
    name, item = _pick(key.child("name"), _NAMES), _pick(key.child("item"), _ITEMS)
    value = _between(key.child("start"), 5, 40)
    story, equations = [f"{name} has {value} {item}."], list[Equation]()
    attempt = changes = 0
    while changes < num_changes:
        change = _change(key.child("change", attempt), name, item, value)
        attempt += 1
        if change is None:  # it would leave 2 .. 60, or halve an odd number: try another
            continue
        sentence, steps = change
        story.append(sentence)
        equations.extend(steps)
        value = steps[-1].result
        changes += 1
    story.append(f"How many {item} does {name} have?")
    return Problem(" ".join(story), tuple(equations), value, num_changes)


def _change(key: Key, name: str, item: str, value: int) -> tuple[str, list[Equation]] | None:
    """One sentence and its equations; None if the number would leave its range."""
    kind = _pick(key.child("kind"), _CHANGES)
    if kind in ("buy", "find", "lose", "give"):
        amount = _between(key.child("amount"), 2, 12)
        sign = 1 if kind in ("buy", "find") else -1
        if not 2 <= value + sign * amount <= _LARGEST:
            return None
        verb = {"buy": "buys", "find": "finds", "lose": "loses", "give": "gives away"}[kind]
        equation = Equation(value, "+" if sign > 0 else "-", amount, value + sign * amount)
        return f"{name} {verb} {amount} {item}.", [equation]
    if kind in ("bags", "group"):
        count, each = _between(key.child("count"), 2, 4), _between(key.child("each"), 2, 4)
        sign = 1 if kind == "bags" else -1
        total = value + sign * count * each
        if not 2 <= total <= _LARGEST:
            return None
        sentence = (
            f"{name} opens {count} bags with {each} {item} each."
            if sign > 0
            else f"{name} gives {count} friends {each} {item} each."
        )
        product = Equation(count, "*", each, count * each)
        return sentence, [
            product,
            Equation(value, "+" if sign > 0 else "-", product.result, total),
        ]
    if kind == "double":
        if 2 * value > _LARGEST:
            return None
        return f"The number of {item} doubles.", [Equation(value, "*", 2, 2 * value)]
    if value % 2 or value < 8:
        return None
    return f"{name} sells half of them.", [Equation(value, "/", 2, value // 2)]
