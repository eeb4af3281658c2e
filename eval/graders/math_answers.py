r"""Answers to mathematical problems: found in a text, and brought into one spelling of their value.

A vote is that spelling, and a grade is the comparison of two of them. So votes for one value are
one vote, equal votes have equal grades, and there is one right vote.

A number is read by `rsalign.selectors.numbers`, exactly. Anything else is read by math-verify and
computed by SymPy: sets, points, intervals, matrices, equations, and expressions with or without
variables. What neither can read ("\text{even}", "40_9") is compared as it is written.

Departs from `math_verify.verify`, which is no equivalence relation and so cannot count votes:

- nothing is rounded: 0.333333 is not 1/3;
- a per cent sign is a unit: 50\% is 50 and not 0.5, while to math-verify it is both;
- the base of "40_9" counts; math-verify ignores it;
- a point is ordered and a set is not: (1, 2) is not "1, 2";
- no expression is computed that takes long: it is compared as it is written.

What `eval.graders.agreement` prints tells where the two differ on public answers.

    >>> FinalExpression()(r"so it is \boxed{\dfrac12}, or half")
    '0.5'
    >>> FinalExpression()(r"\boxed{(x+1)^2}"), FinalExpression()(r"\boxed{x^2 + 2x + 1}")
    ('x**2 + 2*x + 1', 'x**2 + 2*x + 1')
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import Any

from eval.tasks.protocol import Grade
from rsalign import InstallError
from rsalign.selectors.extraction import (
    FinalNumber,
    announced,
    are_fillers,
    last_box,
    leading_number,
)
from rsalign.selectors.numbers import read_number, spell

_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>(?:\\.|[^$\\]){1,400})\$\$"
    r"|\\\[(?P<bracket>(?:(?!\\\]).){1,400})\\\]"
    r"|\\\((?P<inline>(?:(?!\\\)).){1,400})\\\)"
    # as Pandoc does: "$5 and $6" is no formula
    r"|(?<![\\$])\$(?=\S)(?P<dollar>(?:\\.|[^$\\\n]){1,400})(?<=\S)\$(?!\d)",
    re.DOTALL,
)
"""A formula; of a bounded length, so that the time is linear in that of the text."""


@dataclass(frozen=True, slots=True)
class FinalExpression:
    r"""The expression that a text gives as its answer, in one spelling of its value.

    It is looked for in this order: in the last ``\boxed{...}``; after the last "answer is" or
    "answer:"; the last formula between dollar signs or LaTeX's brackets; the last number. The first
    that there is decides.

    Raises:
        InstallError: if it is not a number, and math-verify is not installed.
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        expression = _written(text)
        return FinalNumber()(text) if expression is None else _spelling(expression)


def _written(text: str) -> str | None:
    """The expression that a text gives as its answer; None where it can only be a number."""
    if (boxed := last_box(text)) is not None:
        return boxed
    rest = announced(text)
    if rest is not None:
        # the announcement may have swallowed the dollar sign that opens the formula
        opening = text[: len(text) - len(rest)]
        found = _FORMULA.search(opening[len(opening.rstrip("$\\([ ")) :] + rest)
        if found is not None and are_fillers(found.string[: found.start()]):
            return _inside(found)
        if leading_number(rest) is not None:
            return None
    formulas = list(_FORMULA.finditer(text))
    return _inside(formulas[-1]) if formulas else None


def _inside(formula: re.Match[str]) -> str:
    return next(part for part in formula.groups() if part is not None)


def prepare_math() -> None:
    """Imports math-verify.

    Raises:
        InstallError: if it is not installed.
    """
    _math_verify()


def grade_number(text: str, gold: str) -> Grade:
    """1 if the final number of `text` has the value of `gold`, else 0; see `FinalNumber`.

    Args:
        text: what was written.
        gold: the right number.

    Raises:
        ValueError: if `gold` is not a number.
    """
    right = read_number(gold)
    if right is None:
        raise ValueError(
            f"the right answer {gold!r} is not a number: see rsalign.selectors.numbers"
        )
    return _grade(FinalNumber()(text), spell(right))


def grade_math(text: str, gold: str) -> Grade:
    r"""1 if the final expression of `text` has the value of `gold`, else 0; see `FinalExpression`.

    Args:
        text: what was written.
        gold: the right answer, LaTeX without dollar signs or a number.

    Raises:
        InstallError: if math-verify is needed and not installed.
        ValueError: if `gold` is empty.
    """
    right = _spelling(gold)
    if right is None:
        raise ValueError(f"the right answer {gold!r} is empty: give LaTeX or a number")
    return _grade(FinalExpression()(text), right)


def _grade(found: str | None, right: str) -> Grade:
    return Grade(score=float(found == right), answer=found)


# One spelling -------------------------------------------------------------------------------

_FRACTION = re.compile(r"\\frac\s*(\{[^{}]*\}|\d)\s*(\{[^{}]*\}|\d)")
_ROOT = re.compile(r"\\sqrt\s*(\d)")
_SPACING = re.compile(
    r"(?<!\\)\\[!,;: ]|\\left(?![a-z])|\\right(?![a-z])|\\[bB]igg?[lr]?(?![a-z])|\\q?quad|~|\$"
    r"|\\(?:displaystyle|textstyle|mathbf|mathit|mathsf|boldsymbol|bm)(?![a-zA-Z])"
)
_BLANK = re.compile(r"(?<=[a-zA-Z])(\s+)(?=[a-zA-Z])|\s+")
_BOTH = re.compile(r",?\s*(?:\\text\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*")
_MIXED = re.compile(r"(?<![\w.}^])(\d+)\\frac\{(\d+)\}\{(\d+)\}")
_UNIT = re.compile(
    r"(?<=.)\\text\{(?![^{}]*\bbase(?![a-z]))[^{}]*\}(?:\^\{?\d\}?)?$|\^\{?\\circ\}?$|\\%$|%$|(?<!\.)\.$"
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox)\s*(?=\{)")
_GROUPING = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\[,;:! ])\s*(?=\d{3})")
_GROUPED = re.compile(r"(?<![\d,.(\[{])[1-9]\d{0,2}(,\d{3})+(?![\d,])")
_ASSIGNED = re.compile(  # not "x = x^2", which says what x is only when it is solved
    r"^(?P<name>[a-zA-Z](?:\([a-zA-Z]\))?|\\[a-z]+)(?:=|\\in(?![a-z]))(?=[^=]+$)"
    r"(?!.*(?<![a-zA-Z\\])(?P=name)(?![a-zA-Z]))"
)


def _spelling(latex: str) -> str | None:
    """The only spelling of the value of `latex`, or its own spelling; None where it is empty."""
    number = read_number(latex)
    if number is not None:
        return spell(number)
    written = _one_spelling(latex)
    return None if written is None else _computed(written) or _without_text(written)


def _one_spelling(latex: str) -> str | None:
    r"""`latex` without what means nothing: spaces, sizes, units; words stay in ``\text{...}``."""
    latex = latex.replace(r"\$", "").replace("dfrac", "frac").replace("tfrac", "frac")
    latex = _GROUPING.sub("", _TEXT.sub(r"\\text", latex))
    # before blanks are dropped: "12, 345" is a list
    latex = _GROUPED.sub(lambda found: found[0].replace(",", ""), latex)
    latex = _SPACING.sub("", latex)
    latex = _BOTH.sub(",", latex.strip())
    # "\pi r" and words keep their blanks, all others mean nothing
    latex = _BLANK.sub(lambda found: " " if found[1] else "", latex)
    while (shorter := _UNIT.sub("", latex)) != latex and shorter:
        latex = shorter
    latex = _ASSIGNED.sub("", latex)
    latex = _FRACTION.sub(lambda found: rf"\frac{_braced(found[1])}{_braced(found[2])}", latex)
    latex = _MIXED.sub(_improper, latex)
    latex = re.sub(r"_\{(\w)\}", r"_\1", _ROOT.sub(r"\\sqrt{\1}", latex))
    return latex or None


def _without_text(written: str) -> str:
    r"""``\text{(A)}`` and ``(A)`` are "A"; the case of words does not count."""
    words = re.sub(r"\\text\{([^{}]*)\}", r"\1", written).strip()
    letter = re.fullmatch(r"\(([A-Z])\)", words)
    if letter is not None:
        return letter[1]
    return words.lower() if re.fullmatch(r"[a-zA-Z ]{2,}", words) else words


def _improper(mixed: re.Match[str]) -> str:
    r"""``2\frac{1}{2}`` as ``\frac{5}{2}``, since what follows may multiply it."""
    whole, above, below = (int(part[-_LONGEST:]) for part in mixed.groups())
    return rf"\frac{{{whole * below + above}}}{{{below}}}" if above < below else mixed[0]


def _braced(part: str) -> str:
    return part if part.startswith("{") else f"{{{part}}}"


# Values of expressions ----------------------------------------------------------------------

_KNOWN = (
    r"frac|sqrt|pi|infty|cup|cap|cdot|times|div|pm|sin|cos|tan|cot|sec|csc|log|ln|arcsin|arccos"
    r"|arctan|alpha|beta|gamma|theta|phi|lambda|mu|omega|leq?|geq?|neq?"
)
_COMPUTABLE = re.compile(
    rf"(?:[0-9a-zA-Z+\-*/^(){{}}\[\],.=<>|!&]| |\\(?:{_KNOWN})(?![a-zA-Z])|\\[{{}}\\]"
    r"|\\(?:begin|end)\{[bpv]?matrix\}|\\log_(?:\w|\{\w+\}))+"
)
_LONGEST = 200
_MOST_NESTED = 8
_DECIMAL = re.compile(r"(\d*)\.(\d+)")


def _computed(written: str) -> str | None:
    """The spelling of the value that math-verify reads; None where it reads none or may not.

    Only what is known to be quick is read: short expressions of common operations, with small
    exponents. So there is no need of a time limit, which would let the same text have a vote on
    one machine and none on another.
    """
    if len(written) < 2 or len(written) > _LONGEST or not _COMPUTABLE.fullmatch(written):
        return None
    letters = re.sub(r"\\(?:begin|end)\{[a-z]+\}|\\[a-zA-Z]+", " ", written)
    if re.search(
        r"[a-zA-Z]{4}|\b(?:no|on|yes|odd|one|two|six|ten|all|any)\b|\d{31}|\^\{[^{}]*\^|\^\{?-?\d{4}|[!)}]!|\.\d*\.|--",
        letters,
    ):
        return None
    single = set(re.findall("[a-zA-Z]", letters))
    if any(letter.lower() in single for letter in single if letter.isupper()):
        return None  # math-verify does not tell upper case from lower case
    if _GROUPED.search(written) is not None:
        return None  # "12, 345" without its blank, which math-verify would take for 12345
    if _depth(written) > _MOST_NESTED:
        return None
    library = _math_verify()
    try:
        return _form(library.read(_DECIMAL.sub(_as_fraction, written)))
    except Exception:  # noqa: BLE001 - both libraries raise anything on what a model may write
        return None


class _Unreadable(Exception):  # noqa: N818 - it decides between two ways of comparing
    """An expression has no spelling here, or would take long to compute."""


def _depth(written: str) -> int:
    depth = deepest = 0
    for character in written:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _as_fraction(decimal: re.Match[str]) -> str:
    return rf"(\frac{{{decimal[1]}{decimal[2]}}}{{1{'0' * len(decimal[2])}}})"


def _form(found: Any) -> str:
    """One spelling of what math-verify read."""
    s = _math_verify().sympy
    if isinstance(found, s.Equality):
        for name, value in ((found.lhs, found.rhs), (found.rhs, found.lhs)):
            if isinstance(name, s.Symbol) and name not in value.free_symbols:
                return _form(value)
        return f"{_up_to_a_factor(found.lhs - found.rhs)} = 0"
    if isinstance(found, s.GreaterThan | s.StrictGreaterThan):
        return _form(found.reversed)
    if isinstance(found, s.LessThan | s.StrictLessThan):
        sign = "<" if isinstance(found, s.StrictLessThan) else "<="
        return f"{_expression(found.lhs - found.rhs)} {sign} 0"
    if isinstance(found, s.Interval):
        left, right = "(" if found.left_open else "[", ")" if found.right_open else "]"
        return f"{left}{_form(found.start)}, {_form(found.end)}{right}"
    if isinstance(found, s.Union):
        return " or ".join(sorted(map(_form, found.args)))
    if isinstance(found, s.FiniteSet):
        named = {one.lhs for one in found.args if isinstance(one, s.Equality)}
        if len(named) > 1:  # "x = 1, y = 2" is not {1, 2}
            return _listed(sorted(f"{one.lhs} = {_form(one.rhs)}" for one in found.args))
        return f"{{{_listed(sorted({_form(one) for one in found.args}))}}}"
    if isinstance(found, s.Tuple):
        return f"({_listed(map(_form, found.args))})"
    if isinstance(found, s.MatrixBase):
        rows = (_listed(map(_form, found.row(i))) for i in range(found.rows))
        return f"[{'; '.join(rows)}]"
    if isinstance(found, s.Expr):
        return _expression(found)
    raise _Unreadable


def _listed(forms: Iterable[str]) -> str:
    return ", ".join(forms)


def _expression(found: Any) -> str:
    """One spelling of an expression: a number, or a quotient of expanded polynomials."""
    s = _math_verify().sympy
    if found in (s.oo, -s.oo):
        return "oo" if found is s.oo else "-oo"
    _require_quick(found)
    i = {symbol: s.I for symbol in found.free_symbols if symbol.name == "i"}
    value = s.expand(found.subs(i).doit())
    if value.free_symbols:
        return str(s.cancel(value))
    if value.is_Rational:
        return spell(Fraction(int(value.p), int(value.q)))
    return _constant(s, value)


def _constant(s: Any, value: Any) -> str:
    """A number that is not rational, or not seen to be, to 25 digits."""
    real, imaginary = (_digits(s, part) for part in s.N(value, 40).as_real_imag())
    if imaginary == "0":
        return real
    return f"{imaginary}*i" if real == "0" else f"{real} + {imaginary}*i"


def _digits(s: Any, value: Any) -> str:
    if not value.is_Float and not value.is_Rational:
        raise _Unreadable  # infinite, or not a number
    exact = Fraction(int(s.floor(value * 2**200)), 2**200)
    near = exact.limit_denominator(10**6)
    if abs(exact) < 10**6 and abs(exact - near) < Fraction(1, 10**30):
        return spell(near)
    return f"{s.Float(value, 25)}..."


def _up_to_a_factor(difference: Any) -> str:
    """One spelling of an expression that is zero where its multiples are."""
    s = _math_verify().sympy
    _require_quick(difference)
    numerator, _ = s.fraction(s.cancel(s.expand(difference)))
    _, primitive = numerator.as_content_primitive()
    spellings = sorted((str(s.expand(primitive)), str(s.expand(-primitive))))
    return spellings[-1]


def _require_quick(found: Any) -> None:
    """Refuses an expression that grows too much when it is expanded.

    Raises:
        _Unreadable: if so.
    """
    degree, bits = _growth(found)
    if degree > 24 or bits > 20_000 or len(found.free_symbols) > 6:
        raise _Unreadable
    if len(found.free_symbols) ** degree > 10_000:
        raise _Unreadable


def _growth(found: Any) -> tuple[int, int]:
    """Bounds of the degree of an expression, and of the bits of the numbers in it."""
    s = _math_verify().sympy
    if isinstance(found, s.Rational):
        return 0, int(found.p).bit_length() + int(found.q).bit_length()
    if not found.args:
        return int(isinstance(found, s.Symbol)), 64
    parts = [_growth(part) for part in found.args]
    degrees, bits = [part[0] for part in parts], [part[1] for part in parts]
    if isinstance(found, s.Pow):
        exponent = found.args[1]
        if not isinstance(exponent, s.Rational):
            return degrees[0], (bits[0] + 1) * 2 ** min(bits[1], 40)
        power = -(-abs(exponent.p) // exponent.q)
        return degrees[0] * power, bits[0] * power
    if isinstance(found, s.factorial):
        argument = found.args[0]
        if not isinstance(argument, s.Integer) or not 0 <= argument <= 200:
            raise _Unreadable
        return 0, 2_000
    if isinstance(found, s.Mul):
        return sum(degrees), sum(bits)
    if isinstance(found, s.Add | s.Function):
        return max(degrees), sum(bits)
    raise _Unreadable


@cache
def _math_verify() -> SimpleNamespace:
    try:
        import sympy
        from latex2sympy2_extended import latex2sympy
    except ImportError as missing:
        raise InstallError(
            "grading mathematical answers needs math-verify, which is not installed: "
            "pip install 'math-verify[antlr4_9_3]'"
        ) from missing

    def read(latex: str) -> Any:
        # its normalization is left out: it takes the "t" of "5t" for a unit
        return latex2sympy(latex, is_real=True, convert_degrees=False, normalization_config=None)

    return SimpleNamespace(sympy=sympy, read=read)
