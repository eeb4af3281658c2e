r"""The exact values of single numbers: digits, decimals, powers of ten and fractions."""

import re
from fractions import Fraction

_MOST_DIGITS = 400
"""Of a number; a longer one is no answer, and its powers would take long to compute."""


_DIGITS = r"\.?\d(?:[.,:'_\u2009]?\d)*"  # more than can be read, so that nothing is cut in two
_POWER = (
    r"\s*[\u00d7\u00b7*]\s*10\s*(?:\^|\*\*)\s*(?:\{\s*[+-]?\d+\s*\}|[+-]?\d+(?![.,:'_\u2009]?\d))"
)
_INDEX = r"_(?:\s*\{[^{}]*\}|(?!_)\w+(?:[.,'\u2009]\d+)*)"
_PART = rf"\s*(?:\{{\s*([+-]?\s*\$?{_DIGITS})\s*\}}|(\d))"
TOKEN = re.compile(
    rf"(?P<fraction>\\frac{_PART}{_PART})"
    rf"|(?P<number>(?P<digits>{_DIGITS})(?P<repeating>\.?\\overline\s*\{{\d+\}})?"
    r"(?P<exponent>[eE][+-]?\d+(?!\w|[.,:'\u2009]\d))?"
    rf"(?:(?P<power>{_POWER})|\s*/\s*\$?(?P<below>{_DIGITS}))?)"
    rf"|(?P<subscript>(?<=[^\W_]|[)}}\]]){_INDEX})"
    r"|(?P<raised>(?:\^|(?<=[\d)])\*\*(?=\d))\s*(?:\{\s*[+-]?\d+\s*\}|[+-]?\d+(?![.,:'_\u2009]?\d)))"
    r"|(?P<unit>(?:USD|EUR|GBP|CAD|AUD|CHF|INR|US(?=\$)|Rs\.?)(?=\s?[\d.$])"
    r"|\u00b0\s?[CFK](?!\w)|[$\u00a2\u00a3\u00a5\u20a9\u20ac\u20b9\u20bd%\u00b0\u2032\u2033])"
    r"|(?P<code>[A-Z]{1,3}\d+(?:[.,]\d+)*(?!\w|[.,]\d))"  # "R18" may be a price or a name
    r"|(?P<speed>(?:km|cm|m|mi|miles|ft|feet|kg|g|mg|lb)/(?:hour|hr|h|min|sec|s|kg|km|L|l|m)(?!\w))"
    rf"|(?P<indexed>[A-Za-z]+{_INDEX})"
    r"|(?P<word>[A-Za-z][A-Za-z0-9_]*(?:(?<=\d)[.,'\u2009]\d+)*(?:'[a-z]+)?|[^\W\d_A-Za-z]+)"
    r"|(?P<symbol>\\[A-Za-z]+|[\u221a\u221e\u222b\u2211\u220f\u2308-\u230b^\\])"
    r"|(?P<equals>=)"
    r"|(?P<bound>[<>\u2264\u2265\u2260\u00b1]|\|(?=-)|(?<!-)[\u2013-]\|(?=\d))"
    r"|(?P<minus>[\u2013-])|(?P<plus>\+)"
    r"|(?P<times>[\u00d7\u00b7\u00f7])|(?P<star>\*+|/+)"
    r"|(?P<opening>[(\[])|(?P<closing>[)\]])"
    r"|(?P<range>(?<=\d)(?:\.{2,}|\u2026)(?=\d))"
    r"|(?P<ellipsis>\.{2,}|\u2026)"
    r"|(?P<listing>[,;]|(?<=\s):)|(?P<stop>[.:!?|])"
)
_WHOLE = re.compile(r"\d+|[1-9]\d{0,2}([,'_\u2009])\d{3}(?:\1\d{3})*")


def _whole(digits: str) -> int | None:
    """The integer that `digits` writes; None where the separators are none of an integer."""
    if len(digits) > _MOST_DIGITS or not _WHOLE.fullmatch(digits):
        return None
    return int(re.sub(r"\D", "", digits))


def _decimal(digits: str) -> Fraction | None:
    """The value of digits with at most one decimal point."""
    before, point, after = digits.partition(".")
    whole = 0 if point and not before else _whole(before)
    if whole is None or len(after) > _MOST_DIGITS or (after and not after.isdigit()):
        return None
    return whole + (Fraction(int(after), 10 ** len(after)) if after else Fraction(0))


def power_of_ten(exponent: str) -> Fraction | None:
    """Ten to the power that `exponent` writes, such as ``^{-3}``; None where it is too large."""
    exponent = re.sub(r"[^\d-]", "", exponent)
    if len(exponent) > 4 or abs(int(exponent)) > _MOST_DIGITS:
        return None
    ten = Fraction(10 ** abs(int(exponent)))
    return 1 / ten if exponent.startswith("-") else ten


def _repeated(digits: str, repeating: str) -> Fraction | None:
    r"""The value of `digits` after which the digits in ``\overline{...}`` repeat for ever."""
    value = _decimal(digits)
    period = re.sub(r"\D", "", repeating)
    if value is None or len(period) > _MOST_DIGITS or "." not in digits + repeating:
        return None
    places = len(digits.partition(".")[2])
    return value + Fraction(int(period), 10**places * (10 ** len(period) - 1))


def literal(token: re.Match[str]) -> Fraction | None:
    """The value of a token of the group "number"."""
    digits, repeating = token["digits"], token["repeating"]
    value = _repeated(digits, repeating) if repeating else _decimal(digits)
    for power in (token["exponent"], token["power"] and re.split(r"\^|\*\*", token["power"])[1]):
        if power:
            ten = power_of_ten(power)
            value = None if value is None or ten is None else value * ten
    if token["below"]:
        below = _decimal(token["below"])
        value = value / below if value is not None and below else None
    return value


def latex_fraction(token: re.Match[str]) -> Fraction | None:
    """The value of a token of the group "fraction"."""
    parts = [part for part in token.groups()[1:5] if part is not None]
    above, below = (_decimal(part.lstrip("+- $")) for part in parts)
    if above is None or not below:
        return None
    negative = ("-" in parts[0]) != ("-" in parts[1])
    return -above / below if negative else above / below
