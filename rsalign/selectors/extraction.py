r"""Extractors: from the text of a response to its answer, or to None if it has none.

Two answers are the same if they are equal as strings; each extractor therefore brings what it finds
into one form. Any function that takes a text and returns a string or None is an extractor too. A
lambda works, but cannot be pickled.

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
"""A function from the text of a response to its answer; None if it has none."""
EXTRACTOR = part(
    "an extractor, such as LastNumber() or AfterMarker('Answer:') of "
    "rsalign.selectors.extraction, or "
    "a function text -> answer or None"
)
"""What an `Extract` must be where it is a setting, for `check_settings`."""


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
    r"""The last number of a text, in one spelling: as a decimal if that is exact, else a fraction.

    `rsalign.selectors.numbers` says what is read as a number. The answer is None if the text has no
    number, or if the last one is not one definite value: "3 or 4", "2x", "3:30", "1.234,5".

    Example:
        >>> LastNumber()("5 + 7 = 12"), LastNumber()("3 or 4")
        ('12', None)
    """

    def __call__(self, text: str) -> str | None:
        """The answer in `text`, or None."""
        return _spelled(last_number(text))


@dataclass(frozen=True, slots=True)
class FinalNumber:
    r"""The number that a text gives as its answer, in the spelling of `LastNumber`.

    It is looked for in this order: in the last ``\boxed{...}``; after the last "####"; after the
    last "answer is" or "answer:"; and in the whole text, of which the last number counts. The
    first of these places that has a number decides. If that is not one definite value ("3 or 4",
    two numbers in a box), the answer is None.

    Example:
        >>> FinalNumber()("3 + 4 = 7, and 7 * 2 = 14.\n#### 14")
        '14'
        >>> FinalNumber()("The answer is 3 * 6 = $18. That is for 2 days.")
        '18'
    """

    def __call__(self, text: str) -> str | None:
        """The answer in `text`, or None."""
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
    """All text after the last `marker`; None if there is no marker or nothing after it.

    White space at both ends is dropped, and each other run of white space becomes one blank.

    Attributes:
        marker: such as ``"Answer:"``; upper and lower case differ.

    Raises:
        ConfigError: if `marker` is not a string, or is empty.

    Example:
        >>> AfterMarker("Answer:")("Let me think. Answer: blue ")
        'blue'
    """

    marker: str

    def __post_init__(self) -> None:
        check_settings(self, marker=at_least(1, note="it announces an answer, such as 'Answer:'"))

    def __call__(self, text: str) -> str | None:
        """The answer in `text`, or None."""
        _, found, answer = text.rpartition(self.marker)
        return (_one_line(answer) or None) if found else None


@dataclass(frozen=True, slots=True)
class Boxed:
    r"""The content of the last ``\boxed{...}`` or ``\fbox{...}``.

    Each run of white space becomes one blank. The answer is None if no box is closed or the last
    one is empty. Braces inside are balanced; ``\{`` and ``\}`` do not count.

    Example:
        >>> Boxed()(r"so \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
    """

    def __call__(self, text: str) -> str | None:
        """The answer in `text`, or None."""
        boxed = last_box(text)
        return None if boxed is None else _one_line(boxed) or None


@dataclass(frozen=True, slots=True)
class WholeText:
    r"""The whole text, each run of white space as one blank; None if it is empty.

    Example:
        >>> WholeText()(" a\n  b ")
        'a b'
    """

    def __call__(self, text: str) -> str | None:
        """The answer in `text`, or None."""
        return _one_line(text) or None


EXTRACTORS: dict[str, type[LastNumber | FinalNumber | AfterMarker | Boxed | WholeText]] = {
    "last_number": LastNumber,
    "final_number": FinalNumber,
    "after_marker": AfterMarker,
    "boxed": Boxed,
    "whole_text": WholeText,
}
"""Extractors by their names in settings; any other class or function is ``module:name``."""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def last_box(text: str) -> str | None:
    r"""The content of the ``\boxed{...}`` that opens last, among those that are closed.

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
    """The text after the last "answer is" or "answer:"; None if there is neither."""
    end = max((found.end() for found in _ANNOUNCED.finditer(text)), default=None)
    return None if end is None else text[end:]


def are_fillers(text: str) -> bool:
    """Whether `text` has only words that may stand before an answer, such as "about"."""
    return _FILLERS.issuperset(re.findall("[a-z]+", text.lower()))


def leading_number(text: str) -> Number | None:
    """The number that `text` begins with, after fillers; None if it begins otherwise."""
    lines = text.lstrip(" \t\r\n*_$:[(\\").splitlines()[:1]
    numbers = find_numbers(lines[0]) if lines else []
    return numbers[0] if numbers and are_fillers(numbers[0].before) else None
