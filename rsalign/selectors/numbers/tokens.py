"""The tokens of a line: numbers with their values, words, signs and operators."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from rsalign.selectors.numbers.literals import TOKEN, latex_fraction, literal, power_of_ten


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
    " millions billions trillions grand squared cubed factorial halves thirds fourths fifths sixths"
    " sevenths eighths ninths tenths hundredths thousandths"
)
"""What changes the value of the number before it in a way that is not the same everywhere."""

_FUNCTIONS = _set("sqrt root pi \u03c0 sin cos tan cot sec csc log ln exp mod infinity")
_SHORT_UNITS = _set(
    "mm cm dm km m in ft yd mi kg mg g lb oz lbs ml mL cl dl L l s h hr hrs min sec pm am mph"
    " kmh kph st nd rd th sq cc pts yrs hz Hz kHz W V A J N ha ac qt pt gal c p of per day men won"
    " kB KB MB GB TB Mb Gb m2 m3 cm2 cm3 km2 ft2 ft3 in2 in3 mm2 mm3"
)
LENGTHS = _set(
    "mm cm dm km m in ft yd mi inch inches foot feet yard yards mile miles meter meters metre"
    " metres centimeter centimeters centimetre centimetres unit units s sec"
)
"""After these a power belongs to the unit, as in "18 cm^2"."""

_ALTERNATIVES = frozenset(("or", "to", "through", "versus", "vs", "out", "choose"))

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
    "range": "|",
    "speed": "W",
    "symbol": "V",
}


@dataclass(slots=True)
class Token:
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


def tokens_of(line: str, formula: bool) -> list[Token]:
    """The tokens of a line; what belongs to a number is part of it."""
    tokens: list[Token] = []
    end = 0
    for found in TOKEN.finditer(line):
        gap = line[end : found.start()].strip("{}")
        if gap and not (tokens and tokens[-1].kind == " "):
            tokens.append(Token(" ", " ", end))
        glued = not tokens or tokens[-1].kind != " "
        before = next((token for token in reversed(tokens[-2:]) if token.kind != " "), None)
        token = _token(found, before, glued, formula)
        if token is not None:
            tokens.append(token)
        end = found.end()
    return tokens


def _token(found: re.Match[str], before: Token | None, glued: bool, formula: bool) -> Token | None:
    """The next token; None where it only changes the one `before` or means nothing."""
    group, text, start = str(found.lastgroup), found[0], found.start()
    number = before if before is not None and before.kind == "N" else None
    if group in ("number", "fraction"):
        value = literal(found) if group == "number" else latex_fraction(found)
        if formula and "," in text and before is not None and before.kind == "(":
            value = None  # "(1,234)" may be a point
        proper = (group == "fraction" or found["below"]) and value is not None and 0 < value < 1
        if proper and value is not None and number is not None and number.whole and number.value:
            number.value, number.whole = number.value + value, False
            return None
        return Token("N", text, start, value, text.isdigit())
    if group == "code":
        return Token("N", text, start)
    if group == "unit":
        return None
    if group == "indexed":  # the index is no number of its own
        return _indexed_token(text.partition("_")[0], start)
    if group == "word":
        return _word_token(text, start, before, glued, formula)
    if group == "raised":
        return _raised_token(text, start, before, formula)
    if group == "subscript":
        if number is not None:  # digits in another base
            number.value = None
        return None
    if group == "speed" and formula:  # of variables
        return Token("V", text, start)
    if group == "ellipsis" and number is not None and "." in number.text:
        number.value = None
    if text == "!" and formula and before is not None and before.kind in "N)":
        return Token("^", text, start)
    return Token(_KINDS[group], text, start)


def _word_token(
    text: str, start: int, before: Token | None, glued: bool, formula: bool
) -> Token | None:
    number = before if before is not None and before.kind == "N" else None
    if number is not None and text.lower() in _MULTIPLES:
        if number.value is not None:
            number.value = None if number.scaled else number.value * _MULTIPLES[text.lower()]
        number.whole, number.scaled = False, True
        return None
    if number is not None and text in _VAGUE:
        number.value = None
        return None
    if number is not None and _changes(number, text, glued):
        number.value = None
    if text.lower() == "and":
        return Token("&", text, start)
    if text.lower() in _ALTERNATIVES:
        return Token("|", text, start)
    after = before is not None and before.kind in "N)^"
    return Token("V" if _is_variable(text, after, glued, formula) else "W", text, start)


def _indexed_token(name: str, start: int) -> Token:
    variable = len(name) == 1 or name.lower() in _FUNCTIONS
    return Token("V" if variable else "W", name, start)


def _changes(number: Token, word: str, glued: bool) -> bool:
    """Whether a word makes another number of the one before it: "1.5e3x", "1.5 e3", "1990s"."""
    if glued and word == "s":
        return len(number.text) > 2 and number.text.endswith("0")
    digits = any(map(str.isdigit, word)) and word not in _SHORT_UNITS
    return digits and (glued or re.fullmatch(r"[eE]\d+", word) is not None)


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


def _raised_token(text: str, start: int, before: Token | None, formula: bool) -> Token | None:
    if before is None:
        return None
    if before.kind == "N" and before.text == "10" and before.whole:  # not "10^2^3", nor "10 k^2"
        before.value, before.whole = power_of_ten(text), False
        return None
    if before.kind == "W" and before.text.rpartition("/")[2] in LENGTHS:
        return None
    return Token("^", text, start)
