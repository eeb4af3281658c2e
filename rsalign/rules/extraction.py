r"""What of a text is its answer: values that map a text to its answer, or to None.

Two answers are the same if they are equal as strings, so each rule brings what it finds into one
form. Anything callable with a text that returns a string or None is an extractor too; a lambda
works, but cannot be pickled.

    >>> LastNumber()("12 + 7 = 19, so 1,019.50")
    '1019.5'
    >>> AfterMarker("Answer:")("Answer: 3? No.\nAnswer:  x = 4 ")
    'x = 4'
    >>> Boxed()(r"\boxed{1} or rather \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.checks import at_least, check_settings, part

Extract: TypeAlias = Callable[[str], str | None]
"""From a response's text to its answer; None where it gives none."""
EXTRACTOR = part(
    "an extractor, such as LastNumber() or AfterMarker('Answer:') of rsalign.rules.extraction, or "
    "a function text -> answer or None"
)
"""What an `Extract` is called where it is a setting."""

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w).])-)?"  # in "5-3" it is an operator
    r"(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
)
_BOXED = r"\boxed{"


@dataclass(frozen=True, slots=True)
class LastNumber:
    """The last number in decimal notation; None where there is none.

    Commas between groups of three digits, leading zeros, zeros at the end of a fraction and the
    sign of zero are dropped. There are no exponents: "1e5" ends in the number 5.
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        found = list(_NUMBER.finditer(text))
        if not found:
            return None
        last = found[-1]
        whole, _, fraction = last["number"].replace(",", "").partition(".")
        whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
        number = f"{whole}.{fraction}" if fraction else whole
        return f"-{number}" if last["sign"] and number != "0" else number


@dataclass(frozen=True, slots=True)
class AfterMarker:
    """All text after the last `marker`; None where there is no marker or nothing after it.

    White space at the ends is dropped, and any other counts as one blank.

    Attributes:
        marker: such as ``"Answer:"``; upper and lower case differ.

    Raises:
        ConfigError: if `marker` is not a string, or is empty.
    """

    marker: str

    def __post_init__(self) -> None:
        check_settings(self, marker=at_least(1, note="it announces an answer, such as 'Answer:'"))

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        _, found, answer = text.rpartition(self.marker)
        return (_one_line(answer) or None) if found else None


@dataclass(frozen=True, slots=True)
class Boxed:
    r"""What the last ``\boxed{...}`` holds; None where none is closed, or the last is empty.

    Braces inside are balanced; ``\{`` and ``\}`` do not count.
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        start = text.rfind(_BOXED)
        while start >= 0:
            inside = _balanced(text[start + len(_BOXED) :])
            if inside is not None:
                return _one_line(inside) or None
            start = text.rfind(_BOXED, 0, start)
        return None


@dataclass(frozen=True, slots=True)
class WholeText:
    """The whole text, with any white space as one blank; None where it is empty."""

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        return _one_line(text) or None


EXTRACTORS: dict[str, type[LastNumber | AfterMarker | Boxed | WholeText]] = {
    "last_number": LastNumber,
    "after_marker": AfterMarker,
    "boxed": Boxed,
    "whole_text": WholeText,
}
"""What the command line calls them; a class or function of one's own is ``module:name``."""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _balanced(text: str) -> str | None:
    """`text` up to the brace that closes it, or None where none does."""
    depth, escaped = 1, False
    for i, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[:i]
    return None
