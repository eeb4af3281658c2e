r"""The exact values of the numbers in a text, in the notations that people and models write.

One reader serves votes and grades: a value is a `fractions.Fraction`, so equal numbers are equal
in any notation, and nothing is rounded.

    >>> [spell(number.value) for number in find_numbers(r"3 * 6 = 18, then \frac{3}{4} of $1,200")]
    ['18', '0.75', '1200']

What is read: signs (also Unicode's), currency before or after, groups of three digits (``70,000``,
``70{,}000``, ``70\,000``, ``70_000``, ``70'000``), decimals, exponents (``1.2e3``,
``3 \times 10^4``), fractions (``3/4``, ``\frac34``, ``½``), mixed numbers (``1 3/4``,
``1\frac{3}{4}``), repeating decimals (``0.\overline{3}``), and the words hundred to trillion. Of a
chain of equalities (``x = 3 * 6 = 18``) the last number counts.

A per cent sign is a unit, as a degree or a dollar sign is: ``50\%``, ``50 percent`` and ``50`` are
all 50, and none of them is ``0.5``. This is the rule of the MATH data set's own grader.

What is not one definite number has no value (None) rather than a wrong one: expressions
(``3 * 6``, ``2x``, ``2\sqrt{3}``, ``2^9``), ranges and alternatives (``3-5``, ``3 or 4``), bounds
(``> 3``), times, dates and ratios (``3:30``), digits in a given base (``40_9``), and notations that
mean different numbers in different countries (``1.234,5``, ``1,5``).

The time is linear in the length of a text.
"""

from dataclasses import dataclass
from fractions import Fraction

from rsalign.selectors.numbers.chains import chains_of
from rsalign.selectors.numbers.markup import plain
from rsalign.selectors.numbers.tokens import tokens_of


@dataclass(frozen=True, slots=True)
class Number:
    """A number or a chain of equalities in a text.

    Attributes:
        value: None if it is not one definite number.
        before: the text between the one before it (or the start) and this one.
        listed: whether it is a member of a list such as "3, 4 and 5".
    """

    value: Fraction | None
    before: str
    listed: bool


def find_numbers(text: str, *, formula: bool = False) -> list[Number]:
    r"""All numbers of `text`, in order.

    Args:
        text: read line by line; an expression does not continue on the next line.
        formula: whether `text` is a formula, such as what a ``\boxed{}`` holds. There a single
            letter is a variable, "!" a factorial, and a blank between digits means nothing.
    """
    return [number for line in text.splitlines() for number in _read_line(line, formula)]


def last_number(text: str) -> Number | None:
    """The last of `find_numbers`, or None; lines before it are not read."""
    for line in reversed(text.splitlines()):
        if numbers := _read_line(line, formula=False):
            return numbers[-1]
    return None


def read_number(formula: str) -> Fraction | None:
    r"""The value of a formula that is one number, with its unit and words at most.

    >>> read_number(r"x = 3 \times 6 = 18\text{ cm}^2"), read_number(r"(-\infty, 5)")
    (Fraction(18, 1), None)

    Args:
        formula: LaTeX without dollar signs, or a number; several lines are one.
    """
    line = plain(" ".join(formula.split()), formula=True)
    chains = chains_of(tokens_of(line, formula=True), formula=True)
    values = {None if chain.listed else chain.value for chain in chains}
    return values.pop() if len(values) == 1 else None


def spell(value: Fraction) -> str:
    """A value in its only spelling: decimal notation where that is exact, else "p/q".

    >>> spell(Fraction(-7, 4)), spell(Fraction(14, 3)), spell(Fraction(1200))
    ('-1.75', '14/3', '1200')
    """
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    if places == 0:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"


def _read_line(line: str, formula: bool) -> list[Number]:
    if not any(map(str.isnumeric, line)):
        return []
    line = plain(line, formula)
    tokens = tokens_of(line, formula)
    numbers, end = [], 0
    for chain in chains_of(tokens, formula):
        if chain.counted:
            start = tokens[chain.first].start
            numbers.append(Number(chain.value, line[end:start], chain.listed))
            end = start
    return numbers
