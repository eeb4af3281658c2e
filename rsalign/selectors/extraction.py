r"""What of a text is its answer: values that map a text to its answer, or to None.

Two answers are the same if they are equal as strings, so each rule brings what it finds into one
form. Anything callable with a text that returns a string or None is an extractor too; a lambda
works, but cannot be pickled.

    >>> LastNumber()("12 + 7 = 19, so 1,019.50")
    '1019.5'
    >>> LastNumber()(r"that is \$70{,}000"), LastNumber()("from 3 to 4")
    ('70000', None)
    >>> AfterMarker("Answer:")("Answer: 3? No.\nAnswer:  x = 4 ")
    'x = 4'
    >>> Boxed()(r"\boxed{1} or rather \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.core.checks import at_least, check_settings, part, quote
from rsalign.core.errors import StrategyError
from rsalign.core.fingerprint import name_of
from rsalign.selectors.numbers import Number, find_numbers, last_number, read_number, spell

Extract: TypeAlias = Callable[[str], str | None]
"""From a response's text to its answer; None where it gives none."""
EXTRACTOR = part(
    "an extractor, such as LastNumber() or AfterMarker('Answer:') of "
    "rsalign.selectors.extraction, or "
    "a function text -> answer or None"
)
"""What an `Extract` is called where it is a setting."""


def extracted(extract: Extract, text: str) -> str | None:
    """The answer of a text by an extractor that may be the user's own.

    Raises:
        StrategyError: if it returned something else than text or None.
    """
    answer: object = extract(text)
    if answer is None or isinstance(answer, str):
        return answer
    raise StrategyError(
        f"the extractor {name_of(extract)} returned {quote(answer)} for {quote(text)}, but must "
        "return text or None: answers are compared as text"
    )


_BRACES = re.compile(r"(?P<box>\\+f?box(?:ed)?\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_ANNOUNCED = re.compile(
    r"\banswers?[*_\"'\s]*(?:is|are|equals|[:=])[\s*_$:\"'(\[\\]*", re.IGNORECASE
)
_FILLERS = frozenset(
    (
        *("a", "about", "all", "altogether", "an", "answer", "approximately", "around", "at"),
        *("be", "equal", "equals", "exactly", "final", "her", "his", "in", "is", "it", "its"),
        *("just", "now", "only", "our", "roughly", "simply", "so", "still", "the", "their"),
        *("then", "therefore", "thus", "to", "total"),
    )
)


@dataclass(frozen=True, slots=True)
class LastNumber:
    r"""The last number, in one spelling: as a decimal where that is exact, else as a fraction.

    `rsalign.selectors.numbers` says what is read as a number. None where the text has no number,
    and
    where the last one is not one definite value: "3 or 4", "2x", "3:30", "1.234,5".
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        return _spelled(last_number(text))


@dataclass(frozen=True, slots=True)
class FinalNumber:
    r"""The number that a text gives as its answer, in the spelling of `LastNumber`.

    It is looked for in this order: in the last ``\boxed{...}``; after the last "####"; after the
    last "answer is" or "answer:"; and in the whole text, of which the last number counts. The
    first of these places that has a number decides; where that is not one definite value ("3 or
    4", two numbers in a box) there is no answer.

    >>> FinalNumber()("3 + 4 = 7, and 7 * 2 = 14.\n#### 14")
    '14'
    >>> FinalNumber()("The answer is 3 * 6 = $18. That is for 2 days.")
    '18'
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        boxed = last_box(text)
        if boxed is not None and find_numbers(boxed, formula=True):
            value = read_number(boxed)
            return None if value is None else spell(value)
        for rest in (text.rpartition("####")[2] if "####" in text else None, announced(text)):
            number = None if rest is None else leading_number(rest)
            if number is not None:
                return None if number.listed else _spelled(number)
        return _spelled(last_number(text))


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
    r"""What the last ``\boxed{...}`` or ``\fbox{...}`` holds, white space counting as one blank.

    None where no box is closed, or the last is empty. Braces inside are balanced; ``\{`` and
    ``\}`` do not count.
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        boxed = last_box(text)
        return None if boxed is None else _one_line(boxed) or None


@dataclass(frozen=True, slots=True)
class WholeText:
    """The whole text, with any white space as one blank; None where it is empty."""

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        return _one_line(text) or None


EXTRACTORS: dict[str, type[LastNumber | FinalNumber | AfterMarker | Boxed | WholeText]] = {
    "last_number": LastNumber,
    "final_number": FinalNumber,
    "after_marker": AfterMarker,
    "boxed": Boxed,
    "whole_text": WholeText,
}
"""What the command line calls them; a class or function of one's own is ``module:name``."""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def last_box(text: str) -> str | None:
    r"""What is between the braces of the ``\boxed{...}`` that opens last, of those that are closed.

    ``\fbox`` counts too, and white space before the brace is allowed. The time is linear.
    """
    if "box" not in text:
        return None
    opened: list[tuple[bool, int]] = []
    last: tuple[int, int] | None = None
    for found in _BRACES.finditer(text):
        if found["close"]:
            is_box, start = opened.pop() if opened else (False, 0)
            if is_box and (last is None or start > last[0]):
                last = start, found.start()
        elif found["box"] or found["open"]:
            opened.append((bool(found["box"]), found.end()))
    return None if last is None else text[last[0] : last[1]]


def _spelled(number: Number | None) -> str | None:
    return None if number is None or number.value is None else spell(number.value)


def announced(text: str) -> str | None:
    """What follows the last "answer is" or "answer:"; None where there is neither."""
    end = max((found.end() for found in _ANNOUNCED.finditer(text)), default=None)
    return None if end is None else text[end:]


def are_fillers(text: str) -> bool:
    """Whether an answer may follow `text` directly: it has only words such as "about"."""
    return _FILLERS.issuperset(re.findall("[a-z]+", text.lower()))


def leading_number(text: str) -> Number | None:
    """The number that `text` opens with, fillers aside; None where it opens otherwise."""
    lines = text.lstrip(" \t\r\n*_$:[(\\").splitlines()[:1]
    numbers = find_numbers(lines[0]) if lines else []
    return numbers[0] if numbers and are_fillers(numbers[0].before) else None
