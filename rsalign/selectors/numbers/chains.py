"""Chains of equalities: which of a line's numbers belong together, and which value they state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from rsalign.selectors.numbers.tokens import LENGTHS, Token

_PARTS: Mapping[str, str] = {
    "dollar": "cent",
    "pound": "ounce oz penny pence shilling",
    "lb": "ounce oz",
    "stone": "pound lb",
    "feet": "inch inche in",
    "foot": "inch inche in",
    "ft": "inch inche in",
    "yard": "feet foot ft inche",
    "yd": "feet foot ft in",
    "mile": "yard feet",
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

_UNITS = frozenset(_PARTS) | frozenset(" ".join(_PARTS.values()).split()) | LENGTHS

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
        (r"(W)\*(?=[NV])", r"\1o"),
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


_ARGUMENTS = re.compile(r"(?<=[VW])\( ?-?N(?: ?, ?-?N)+ ?\)")
"""Of a function of several: "gcd(12, 18)" is one expression, and no list of numbers."""


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
class Chain:
    """Sides that are said to be equal, and which of the line's tokens they are."""

    first: int
    last: int = 0
    sides: list[_Side] = field(default_factory=lambda: [_Side()])
    listed: bool = False
    refused: bool = False

    @property
    def counted(self) -> bool:
        """Whether there is a number at all."""
        return any(side.numbers for side in self.sides)

    @property
    def value(self) -> Fraction | None:
        """Of the last side that is a number; the others are said to equal it."""
        if self.refused or any(side.open for side in self.sides):
            return None
        plain = [side.value for side in self.sides if side.numbers and not side.expression]
        return plain[-1] if plain else None


def chains_of(tokens: list[Token], formula: bool) -> list[Chain]:
    """The chains of a line."""
    kinds = "".join(token.kind for token in tokens)
    kinds = _ARGUMENTS.sub(lambda found: found[0].replace(",", "o"), kinds)
    if formula:
        kinds = re.sub(r"^( ?)-", r"\1s", kinds)
    for pattern, instead in _RULES:
        kinds = pattern.sub(instead, kinds)
    chains: list[Chain] = []
    chain: Chain | None = None
    negative = unclear = bounded = joined = worded = False
    for at, kind in enumerate(kinds):
        token = tokens[at]
        if kind in "NV":
            if chain is not None and not joined and _is_over(chain.sides[-1], kind, worded):
                chain = None
            if chain is None:
                chains.append(chain := Chain(at))
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
                chains.append(chain := Chain(at))
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


def _ends(chain: Chain | None) -> bool:
    """Whether a bracket after a blank would be a remark on the chain's number."""
    return chain is not None and chain.sides[-1].numbers > 0


def _relate(one: Chain, other: Chain, between: str, tokens: list[Token], formula: bool) -> None:
    """Marks two neighbours that are a list, alternatives, or parts of one unclear number."""
    between = between.replace(" ", "").replace("s", "")
    unclear = False
    if not between:
        left, right = tokens[one.last].text, tokens[other.first].text
        groups = bool(re.search(r"(?<!\d)\d{1,3}$", left) and re.match(r"\d{3}(?!\d)", right))
        unclear = groups or formula or "/" in right or "\\" in right
    elif between == "&":  # "1 and 3/4" may be one number
        unclear = bool(re.search(r"/|\\frac", tokens[other.first].text))
    elif re.fullmatch(r"W\.?[,&]{0,2}", between):
        unclear = _is_compound(one, other, tokens)
    elif re.fullmatch(r"\^*(?:W\^?\.?)?,?&?\|\.?", between):  # "2^3 to 9" is a range, too
        refused = "W" not in between or "^" in between or _is_range(one, other, tokens)
        one.refused |= refused
        other.refused |= refused
    if unclear:
        one.sides[-1].value = other.sides[0].value = None
    elif re.fullmatch(r",|,?&", between) and (
        len(other.sides) == 1 or other.sides[0].variable  # else "..., 3 * 4 = 12" is the next step
    ):
        one.listed = other.listed = True


def _is_compound(one: Chain, other: Chain, tokens: list[Token]) -> bool:
    """Whether the units of two neighbours are a unit and its part."""
    whole, part = (_unit_after(tokens, chain.last) for chain in (one, other))
    return part.rstrip("s") in _PARTS.get(whole.rstrip("s"), "").split()


def _is_range(one: Chain, other: Chain, tokens: list[Token]) -> bool:
    """Whether two quantities are alternatives: "3 cm to 5 cm", not "3 pens to 5 girls"."""
    unit, same = (_unit_after(tokens, chain.last) for chain in (one, other))
    between = (token.text.lower() for token in tokens[one.last : other.first])
    return unit == same or unit in _UNITS or "or" in between


def _unit_after(tokens: list[Token], at: int) -> str:
    following = tokens[at + 1 : at + 3]
    return next((token.text.lower() for token in following if token.kind == "W"), "")
