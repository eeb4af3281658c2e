"""Values of mathematical expressions: read by math-verify, computed by SymPy, in one spelling."""

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import Any

from rsalign import InstallError
from rsalign.selectors.numbers import spell

_KNOWN = (
    r"frac|sqrt|pi|infty|cup|cap|cdot|times|div|pm|sin|cos|tan|cot|sec|csc|log|ln|arcsin|arccos"
    r"|arctan|alpha|beta|gamma|theta|phi|lambda|mu|omega|leq?|geq?|neq?"
)
_COMPUTABLE = re.compile(
    rf"(?:[0-9a-zA-Z+\-*/^(){{}}\[\],.=<>|!&]| |\\(?:{_KNOWN})(?![a-zA-Z])|\\[{{}}\\]"
    r"|\\(?:begin|end)\{[bpv]?matrix\}|\\log_(?:\w|\{\w+\}))+"
)
LONGEST = 200
"""Letters of an expression that is computed, and digits of a number in it that are read."""
GROUPED = re.compile(r"(?<![\d,.(\[{])[1-9]\d{0,2}(,\d{3})+(?![\d,])")
"""A number with commas between its groups of digits."""
_MOST_NESTED = 8
_DECIMAL = re.compile(r"(\d*)\.(\d+)")


def compute_form(written: str) -> str | None:
    """The spelling of the value that math-verify reads; None where it reads none or may not.

    Only what is known to be quick is read: short expressions of common operations, with small
    exponents. So there is no need of a time limit, which would let the same text have a vote on
    one machine and none on another.
    """
    if len(written) < 2 or len(written) > LONGEST or not _COMPUTABLE.fullmatch(written):
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
    if GROUPED.search(written) is not None:
        return None  # "12, 345" without its blank, which math-verify would take for 12345
    if _depth(written) > _MOST_NESTED:
        return None
    library = load_math_verify()
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
    s = load_math_verify().sympy
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
    s = load_math_verify().sympy
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
    s = load_math_verify().sympy
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
    s = load_math_verify().sympy
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
def load_math_verify() -> SimpleNamespace:
    """SymPy, and what reads LaTeX into its expressions.

    Raises:
        InstallError: if math-verify is not installed.
    """
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
