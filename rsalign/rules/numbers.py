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

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

_MOST_DIGITS = 400
"""Of a number; a longer one is no answer, and its powers would take long to compute."""


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
    line = _plain(" ".join(formula.split()), formula=True)
    chains = _chains(_tokens(line, formula=True), formula=True)
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


# Characters ---------------------------------------------------------------------------------

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\ufe63\u2010\u2011", "-"),
        **dict.fromkeys("\u2014\u2015\u2012", "\u2013"),
        **dict.fromkeys("\u2715\u2716\u2a2f", "\u00d7"),
        **dict.fromkeys("\u22c5\u2219", "\u00b7"),
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202b\u202c", ""),
        **dict.fromkeys("\u202f\u2007\u200a\u2008\u00a0", "\u2009"),
        **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
        "\u066c": ",",
        "\u066b": ".",
        "\uffe5": "\u00a5",
    }
)
_RAISED = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b"
_LOWERED = "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089"
_TO_LINE = str.maketrans(_RAISED + _LOWERED, "0123456789+-0123456789")
_RAISED_RUN = re.compile(f"[{_RAISED}]+")
_LOWERED_RUN = re.compile(f"[{_LOWERED}]+")


def _in_ascii(text: str) -> str:
    """`text` with plain digits and signs; raised and lowered digits and fractions as in LaTeX."""
    text = text.translate(_CHARACTERS)
    text = _RAISED_RUN.sub(lambda found: f"^{{{found[0].translate(_TO_LINE)}}}", text)
    text = _LOWERED_RUN.sub(lambda found: f"_{{{found[0].translate(_TO_LINE)}}}", text)
    return "".join(map(_plain_character, text))


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    if unicodedata.decomposition(character).startswith("<fraction>"):
        above, _, below = unicodedata.normalize("NFKC", character).partition("\u2044")
        return rf"\frac{{{above}}}{{{below}}}" if below else character
    return character


# Markup -------------------------------------------------------------------------------------

_TAG = re.compile(r"<<[^<>]*>>|</?[A-Za-z][\w-]*\s*/?>")  # <<3*6=18>> is GSM8K's calculator
_END = r"(?![A-Za-z])"
_LATEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\\\\(?:\[[^\[\]]*\])?(?!(?:frac|text|boxed|fbox)\b)", ";"),
        (r"\\(?:begin|end)\s*\{[^{}]*\}", ";"),
        (r"\\[hv]space\*?\s*\{[^{}]*\}|\\(?:text)?color\s*\{[^{}]*\}|\\label\s*\{[^{}]*\}", " "),
        (r"\\(?:left|right|[bB]igg?[lr]?)" + _END + r"\.?", ""),
        (r"\\(?:m?angle|measuredangle|triangle)" + _END, " "),
        (
            r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|boldsymbol|bm|mbox|hbox"
            r"|boxed|fbox|underline|(?:display|text)style|operatorname|quad|qquad)" + _END,
            " ",
        ),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ" + _END + r")|\\degree" + _END, "\u00b0"),
        (r"\\times" + _END, "\u00d7"),
        (r"\\(?:cdot|ast|bullet)" + _END, "\u00b7"),
        (r"\\div" + _END, "\u00f7"),
        (r"\\(?:pm|mp)" + _END, "\u00b1"),
        (r"\\(?:approx|simeq|equiv|doteq|cong)" + _END, "="),
        (r"\\(?:leq?|geq?|lt|gt|neq?|leqslant|geqslant|ll|gg)" + _END, "\u2264"),
        (
            r"\\(?:to|implies|iff|(?:long)?(?:left)?rightarrow|Rightarrow|Leftrightarrow"
            r"|therefore|because)" + _END,
            ";",
        ),
        (r"\\(?:l|c|d)?dots" + _END, "\u2026"),
        (r"\\sim" + _END, " "),
        (r"\\([$%#&])", r"\1"),
        (r",\\!\s*", ","),
        (r"\\!", ""),
        (r"(?<=\d)(?:\\[,;: ]|~)+(?=\d{3})|(?<=\d)\\thinspace" + _END + r"\s*(?=\d{3})", "\u2009"),
        (r"\\[,;: ]|~|\\thinspace" + _END, " "),
        (r"\\[()\[\]]", " "),
    )
)
_WORDS = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mbox|mathrm)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"(?<![^\W_])[A-Za-z](?![^\W_])")
_BRACED_COMMA = re.compile(r"\{\s*,\s*\}")
_BLANK_GROUP = re.compile(r"(?<=\d)[ ]+(?=\d{3}(?![\d/]))")
_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*(?=\$?\.?\d)")
_WORD_TIMES = re.compile(r"(?<=\s)[xX](?=\s+[$(]?\.?\d)")  # "3 hours x $10"
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"(?i)\b(?:divided|multiplied)\s+by\b|\btimes\b(?=\s*[$(-]*\.?\d)", " \u00f7 "),
        (r"(?i)\bplus\b(?=\s*[$(]*\.?\d)", " + "),
        (r"(?i)\b(?:minus|negative)\s+(?=[$(]*\.?\d)", " -"),
        (r"(?i)\band\s+(?:a|one|two|three)[ -](?:half|quarters?|thirds?|fourths?)\b", " dozen "),
        (r"\\[dtc]frac", r"\\frac"),
        (r"(?<=[A-Za-z])&(?=[A-Za-z])", "and"),  # "M&M's"
        (r"[=-]>|\u2192|\u21d2|\u21d4|\u27f9|\u2234|&|\t", ";"),
        (r"[<>!]=", "\u2264"),
        (r"\+/?-", "\u00b1"),
        (r"\u2248|\u2261|\u2245|={2,}", "="),
        (r"(?i)\bout\s+of\b", " out "),
        (r"#+", " "),
    )
)


def _plain(line: str, formula: bool) -> str:
    """`line` without markup, in the few characters that `_TOKEN` knows."""
    if not line.isascii():
        line = _in_ascii(line)
    if "<" in line:
        line = _TAG.sub("", line)
    if "\\" in line or "~" in line:
        # "m" in words is a unit, elsewhere in a formula a variable
        line = _WORDS.sub(lambda found: f" {_LETTER.sub('unit', found[1])} ", line)
        for pattern, instead in _LATEX:
            line = pattern.sub(instead, line)
    line = _BRACED_COMMA.sub(",", line)
    for pattern, instead in _SHAPES:
        line = pattern.sub(instead, line)
    line = _BLANK_GROUP.sub("\u2009", line) if formula else _WORD_TIMES.sub("\u00d7", line)
    return _TIMES.sub("\u00d7", line)


# Literals -----------------------------------------------------------------------------------

_DIGITS = r"\.?\d(?:[.,:'_\u2009]?\d)*"  # more than can be read, so that nothing is cut in two
_POWER = (
    r"\s*[\u00d7\u00b7*]\s*10\s*(?:\^|\*\*)\s*(?:\{\s*[+-]?\d+\s*\}|[+-]?\d+(?![.,:'_\u2009]?\d))"
)
_PART = rf"\s*(?:\{{\s*([+-]?\s*\$?{_DIGITS})\s*\}}|(\d))"
_TOKEN = re.compile(
    rf"(?P<fraction>\\frac{_PART}{_PART})"
    rf"|(?P<number>(?P<digits>{_DIGITS})(?P<repeating>\.?\\overline\s*\{{\d+\}})?"
    r"(?P<exponent>[eE][+-]?\d+(?!\w))?"
    rf"(?:(?P<power>{_POWER})|\s*/\s*\$?(?P<below>{_DIGITS}))?)"
    r"|(?P<subscript>(?<=[\w)}\]])_\s*(?:\{[^{}]*\}|\w+(?:[.,'\u2009]\d+)*))"
    r"|(?P<raised>(?:\^|(?<=[\d)])\*\*(?=\d))\s*(?:\{\s*[+-]?\d+\s*\}|[+-]?\d+(?![.,:'_\u2009]?\d)))"
    r"|(?P<unit>(?:USD|EUR|GBP|CAD|AUD|CHF|INR|US(?=\$)|Rs\.?)(?=\s?[\d.$])"
    r"|[$\u00a2\u00a3\u00a5\u20a9\u20ac\u20b9\u20bd%\u00b0\u2032\u2033])"
    r"|(?P<code>[A-Z]{1,3}\d+(?:[.,]\d+)*(?!\w))"  # "R18" may be a price or a name
    r"|(?P<word>[A-Za-z][A-Za-z0-9_]*(?:(?<=\d)[.,'\u2009]\d+)*(?:'[a-z]+)?|[^\W\d_A-Za-z]+)"
    r"|(?P<symbol>\\[A-Za-z]+|[\u221a\u221e\u222b\u2211\u220f^\\])"
    r"|(?P<equals>=)"
    r"|(?P<bound>[<>\u2264\u2265\u2260\u00b1]|\|(?=-))"
    r"|(?P<minus>[\u2013-])|(?P<plus>\+)"
    r"|(?P<times>[\u00d7\u00b7\u00f7])|(?P<star>\*+|/)"
    r"|(?P<opening>[(\[])|(?P<closing>[)\]])"
    r"|(?P<ellipsis>\.{2,}|\u2026)"
    r"|(?P<listing>[,;]|(?<=\s):)|(?P<stop>[.:!?|])"
)
_WHOLE = re.compile(r"\d+|\d{1,3}([,'_\u2009])\d{3}(?:\1\d{3})*")


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


def _power_of_ten(exponent: str) -> Fraction | None:
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


def _literal(token: re.Match[str]) -> Fraction | None:
    """The value of a token of the group "number"."""
    digits, repeating = token["digits"], token["repeating"]
    value = _repeated(digits, repeating) if repeating else _decimal(digits)
    for power in (token["exponent"], token["power"] and re.split(r"\^|\*\*", token["power"])[1]):
        if power:
            ten = _power_of_ten(power)
            value = None if value is None or ten is None else value * ten
    if token["below"]:
        below = _decimal(token["below"])
        value = value / below if value is not None and below else None
    return value


def _latex_fraction(token: re.Match[str]) -> Fraction | None:
    """The value of a token of the group "fraction"."""
    parts = [part for part in token.groups()[1:5] if part is not None]
    above, below = (_decimal(part.lstrip("+- $")) for part in parts)
    if above is None or not below:
        return None
    negative = ("-" in parts[0]) != ("-" in parts[1])
    return -above / below if negative else above / below


# Tokens -------------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MULTIPLES: Mapping[str, int] = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_VAGUE = _set(
    "dozen dozens score gross lakh lakhs crore crores k K M B T bn mn mln hundreds thousands"
    " millions billions trillions"
)
"""What changes the value of the number before it in a way that is not the same everywhere."""

_FUNCTIONS = _set("sqrt root pi \u03c0 sin cos tan cot sec csc log ln exp mod infinity")
_SHORT_UNITS = _set(
    "mm cm dm km m in ft yd mi kg mg g lb oz lbs ml mL cl dl L l s h hr hrs min sec pm am mph"
    " kmh kph st nd rd th sq cc pts yrs hz Hz kHz W V A J N ha ac qt pt gal c p of per day men won"
    " kB KB MB GB TB Mb Gb m2 m3 cm2 cm3 km2 ft2 ft3 in2 in3 mm2 mm3"
)
_LENGTHS = _set(
    "mm cm dm km m in ft yd mi inch inches foot feet yard yards mile miles meter meters metre"
    " metres centimeter centimeters centimetre centimetres unit units s sec"
)
"""After these a power belongs to the unit, as in "18 cm^2"."""

_ALTERNATIVES = frozenset(("or", "to", "through", "versus", "vs", "out"))

_PARTS: Mapping[str, str] = {
    "dollar": "cent",
    "pound": "ounce penny pence shilling",
    "feet": "inch inche in",
    "foot": "inch inche in",
    "ft": "inch inche in",
    "yard": "feet foot inche",
    "meter": "centimeter cm",
    "m": "cm",
    "km": "m meter",
    "kg": "g gram",
    "kilogram": "gram g",
    "year": "month week day",
    "month": "week day",
    "week": "day",
    "day": "hour minute",
    "hour": "minute min second",
    "hr": "minute min",
    "h": "min m minute",
    "minute": "second sec",
    "min": "second sec s",
    "gallon": "quart pint",
    "degree": "minute",
}
"""Units with their parts, without the s of the plural: "2 hours 30 minutes" is one quantity."""

_KINDS: Mapping[str, str] = {
    "equals": "=",
    "bound": "<",
    "minus": "-",
    "plus": "+",
    "times": "x",
    "star": "*",
    "opening": "(",
    "closing": ")",
    "listing": ",",
    "stop": ".",
    "ellipsis": ".",
    "symbol": "V",
}


@dataclass(slots=True)
class _Token:
    """A token with its kind, one character, for which patterns can be written.

    ``N`` a number, ``V`` an operand without a value (variable, root, power), ``W`` a word, ``&``
    "and", ``|`` an alternative ("or", "to"), ``o`` an operator between two operands, ``s`` a minus
    sign, ``?`` a dash that may be one, ``<`` a bound, ``=``, ``(``, ``)``, ``,``, ``.``; a blank
    stands for white space, or for what means nothing.
    """

    kind: str
    text: str
    start: int
    value: Fraction | None = None
    whole: bool = False
    scaled: bool = False


def _tokens(line: str, formula: bool) -> list[_Token]:
    """The tokens of a line; what belongs to a number is part of it."""
    tokens: list[_Token] = []
    end = 0
    for found in _TOKEN.finditer(line):
        gap = line[end : found.start()].strip("{}")
        if gap and not (tokens and tokens[-1].kind == " "):
            tokens.append(_Token(" ", " ", end))
        glued = not tokens or tokens[-1].kind != " "
        before = next((token for token in reversed(tokens[-2:]) if token.kind != " "), None)
        token = _token(found, before, glued, formula)
        if token is not None:
            tokens.append(token)
        end = found.end()
    return tokens


def _token(
    found: re.Match[str], before: _Token | None, glued: bool, formula: bool
) -> _Token | None:
    """The next token; None where it only changes the one `before` or means nothing."""
    group, text, start = str(found.lastgroup), found[0], found.start()
    number = before if before is not None and before.kind == "N" else None
    if group in ("number", "fraction"):
        value = _literal(found) if group == "number" else _latex_fraction(found)
        if formula and "," in text and before is not None and before.kind == "(":
            value = None  # "(1,234)" may be a point
        proper = (group == "fraction" or found["below"]) and value is not None and 0 < value < 1
        if proper and value is not None and number is not None and number.whole and number.value:
            number.value, number.whole = number.value + value, False
            return None
        return _Token("N", text, start, value, text.isdigit())
    if group == "code":
        return _Token("N", text, start)
    if group == "unit":
        return None
    if group == "word":
        return _word_token(text, start, before, glued, formula)
    if group == "raised":
        return _raised_token(text, start, before, formula)
    if group == "subscript":
        if number is not None:  # digits in another base
            number.value = None
        return None
    if group == "ellipsis" and number is not None and "." in number.text:
        number.value = None
    if text == "!" and formula and before is not None and before.kind in "N)":
        return _Token("^", text, start)
    return _Token(_KINDS[group], text, start)


def _word_token(
    text: str, start: int, before: _Token | None, glued: bool, formula: bool
) -> _Token | None:
    number = before if before is not None and before.kind == "N" else None
    if number is not None and text.lower() in _MULTIPLES:
        if number.value is not None:
            number.value = None if number.scaled else number.value * _MULTIPLES[text.lower()]
        number.whole, number.scaled = False, True
        return None
    if number is not None and text in _VAGUE:
        number.value = None
        return None
    if text.lower() == "and":
        return _Token("&", text, start)
    if text.lower() in _ALTERNATIVES:
        return _Token("|", text, start)
    after = before is not None and before.kind in "N)^"
    return _Token("V" if _is_variable(text, after, glued, formula) else "W", text, start)


def _is_variable(word: str, after_number: bool, glued: bool, formula: bool) -> bool:
    if word.lower() in _FUNCTIONS:
        return True
    if not word.isascii():
        return False
    if formula:
        return len(word) == 1 or (after_number and len(word) < 4 and word not in _SHORT_UNITS)
    if after_number and glued:
        return len(word) < 3 and word not in _SHORT_UNITS
    if after_number:
        return word in "xyzn"
    return len(word) == 1 and word not in "aAI"


def _raised_token(text: str, start: int, before: _Token | None, formula: bool) -> _Token | None:
    if before is None:
        return None
    if before.kind == "N" and before.text == "10" and before.whole:  # not "10^2^3", nor "10 k^2"
        before.value, before.whole = _power_of_ten(text), False
        return None
    if before.kind == "W" and before.text in _LENGTHS:
        return None
    return _Token("^", text, start)


# Chains of equalities -----------------------------------------------------------------------

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        # what stands for a product without a sign
        (r"(?<=V)\(", "f"),
        (r"(?<=[N)^])\(", "o"),
        (r"\)(?=[NV])", "o"),
        # a star or slash with no operand beside it is markup, or "per"
        (r"([NV)^] ?)\*(?= ?[-+]? ?\(*[-+]?[NV])", r"\1o"),
        (r"(W )[*x](?= [-+]?\(*[NV])", r"\1o"),
        (r"^( ?)x", r"\1 "),
        (r"x", "o"),
        (r"\*", " "),
        # a minus: between operands; a sign; or a dash
        (r"([NV)^] ?)-(?= ?[-+]?\(*[-+]?[NV])", r"\1o"),
        (r"([NV)^] ?)-", r"\1."),
        (r"([W&|] )-(?=[NV(])", r"\1s"),
        (r"([W&|] ?)-", r"\1?"),
        (r"^( ?)-(?= )", r"\1?"),
        (r"-", "s"),
        (r"([NV)^] ?|W )\+(?= ?[s(]*[NV])", r"\1o"),
        (r"\+", " "),
    )
)


@dataclass(slots=True)
class _Side:
    """What stands between two signs of equality: nothing, a number, or an expression."""

    value: Fraction | None = None
    numbers: int = 0
    operands: int = 0
    expression: bool = False
    variable: bool = False
    function: bool = False

    @property
    def open(self) -> bool:
        """Whether it is an expression in a variable, so that the chain is an equation."""
        return self.variable and (self.numbers > 0 or self.expression) and not self.function


@dataclass(slots=True)
class _Chain:
    """Sides that are said to be equal, and which of the line's tokens they are."""

    first: int
    last: int = 0
    sides: list[_Side] = field(default_factory=lambda: [_Side()])
    listed: bool = False
    refused: bool = False

    @property
    def counted(self) -> bool:
        return any(side.numbers for side in self.sides)

    @property
    def value(self) -> Fraction | None:
        """Of the last side that is a number; the others are said to equal it."""
        if self.refused or any(side.open for side in self.sides):
            return None
        plain = [side.value for side in self.sides if side.numbers and not side.expression]
        return plain[-1] if plain else None


def _chains(tokens: list[_Token], formula: bool) -> list[_Chain]:
    """The chains of a line."""
    kinds = "".join(token.kind for token in tokens)
    if formula:
        kinds = re.sub(r"^( ?)-", r"\1s", kinds)
    for pattern, instead in _RULES:
        kinds = pattern.sub(instead, kinds)
    chains: list[_Chain] = []
    chain: _Chain | None = None
    negative = unclear = bounded = joined = worded = False
    for at, kind in enumerate(kinds):
        token = tokens[at]
        if kind in "NV":
            if chain is not None and not joined and _is_over(chain.sides[-1], kind, worded):
                chain = None
            if chain is None:
                chains.append(chain := _Chain(at))
            side = chain.sides[-1]
            letter = len(token.text) == 1 and token.text.isalpha() and token.text != "\u03c0"
            side.expression |= joined or side.operands > 0 or (kind == "V" and not letter)
            side.operands += 1
            chain.last = at
            if kind == "N":
                side.numbers += 1
                side.value = None if unclear else token.value
                if negative and side.value is not None:
                    side.value = -side.value
                chain.refused |= bounded
            else:
                side.variable |= letter
            negative = unclear = bounded = joined = worded = False
        elif kind == "s":
            unclear |= negative
            negative = True
        elif kind == "?":
            chain, unclear = None, True
        elif kind in "of^":
            joined |= kind != "^"
            if chain is not None:
                side = chain.sides[-1]
                side.expression = True
                side.function |= kind == "f" and tokens[at - 1].text not in "xyznt"
        elif kind == "=":
            if chain is None:
                chains.append(chain := _Chain(at))
            chain.sides.append(_Side())
            negative = unclear = bounded = joined = worded = False
        elif kind == "<":
            if chain is not None:
                chain.refused = True
            chain, bounded, joined = None, True, False
        elif kind == "W":
            worded, negative, unclear, bounded = not joined, False, False, False
        elif kind in "&|,." or (kind == "(" and not joined and _ends(chain)):
            chain = None
            negative = unclear = bounded = joined = worded = False
    for one, other in pairwise([chain for chain in chains if chain.counted]):
        _relate(one, other, kinds[one.last + 1 : other.first], tokens, formula)
    return chains


def _is_over(side: _Side, kind: str, worded: bool) -> bool:
    """Whether an operand without an operator before it is no part of what stands before it.

    "3 apples 5" are two numbers, "2x" and "x 5" are each one expression.
    """
    alone = kind == "N" and not side.expression and not side.variable
    return side.operands > 0 and (worded or alone)


def _ends(chain: _Chain | None) -> bool:
    """Whether a bracket after a blank would be a remark on the chain's number."""
    return chain is not None and chain.sides[-1].numbers > 0


def _relate(one: _Chain, other: _Chain, between: str, tokens: list[_Token], formula: bool) -> None:
    """Marks two neighbours that are a list, alternatives, or parts of one unclear number."""
    between = between.replace(" ", "").replace("s", "")
    unclear = False
    if not between:
        left, right = tokens[one.last].text, tokens[other.first].text
        groups = bool(re.search(r"(?<!\d)\d{1,3}$", left) and re.match(r"\d{3}(?!\d)", right))
        unclear = groups or formula or "/" in right or "\\" in right
    elif between == "&":  # "1 and 3/4" may be one number
        unclear = bool(re.search(r"/|\\frac", tokens[other.first].text))
    elif re.fullmatch(r"W[,&]{0,2}", between):
        unclear = _is_compound(one, other, tokens)
    elif re.fullmatch(r",?\|", between):
        one.refused = other.refused = True
    if unclear:
        one.sides[-1].value = other.sides[0].value = None
    elif re.fullmatch(r",|,?&", between) and (
        len(other.sides) == 1 or other.sides[0].variable  # else "..., 3 * 4 = 12" is the next step
    ):
        one.listed = other.listed = True


def _is_compound(one: _Chain, other: _Chain, tokens: list[_Token]) -> bool:
    """Whether the units of two neighbours are a unit and its part."""
    whole, part = (_unit_after(tokens, chain.last) for chain in (one, other))
    return part.rstrip("s") in _PARTS.get(whole.rstrip("s"), "").split()


def _unit_after(tokens: list[_Token], at: int) -> str:
    following = tokens[at + 1 : at + 3]
    return next((token.text.lower() for token in following if token.kind == "W"), "")


def _read_line(line: str, formula: bool) -> list[Number]:
    if not any(map(str.isnumeric, line)):
        return []
    line = _plain(line, formula)
    tokens = _tokens(line, formula)
    numbers, end = [], 0
    for chain in _chains(tokens, formula):
        if chain.counted:
            start = tokens[chain.first].start
            numbers.append(Number(chain.value, line[end:start], chain.listed))
            end = start
    return numbers
