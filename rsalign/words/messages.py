"""What error messages show of a value: never more than a line of it."""

import ast
import contextlib
import difflib
import json
from collections.abc import Iterable
from typing import Any

from rsalign.core.declared import quote

_MOST_SHOWN = 80
"""Characters of a value in a message."""
_MOST_PARSED = 10_000
"""Characters of a text that may be read as a list or an object."""
_TRUE_FALSE_NONE = {"true": True, "false": False, "none": None, "null": None}


def show(value: Any) -> str:
    """A value as a message shows it; the same whether it came as text or as what the text means.

    >>> show("2.5"), show(2.5), show("true"), show("many"), show(4.0)
    ('2.5', '2.5', 'True', "'many'", '4')
    """
    meant = guess(value) if isinstance(value, str) else value
    if isinstance(meant, float) and meant.is_integer():
        meant = int(meant)
    if isinstance(meant, tuple):
        meant = list(meant)  # what YAML's lists have become
    if isinstance(meant, str):
        meant = meant[: _MOST_SHOWN + 1]  # repr of megabytes takes its time
    return quote(meant)


def clip(text: str, most: int = 1000) -> str:
    """A text of at most about `most` characters: what is too long loses its middle."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}...{text[-half:]}"


def show_name(name: str) -> str:
    """An unknown name, as a message shows it."""
    return clip(repr(name[:81]), 80)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest name, and all that there are."""
    names = sorted(known)
    if not names:
        return " (there are none)"
    near = difflib.get_close_matches(wrong[:_MOST_SHOWN], names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(names)})"


def guess(text: str) -> Any:
    """What a text means where nothing declares its type.

    A number, ``true``, ``false``, ``none`` or ``null`` in any case, a list or an object (JSON or
    Python), or a quoted text; everything else is itself.

    >>> guess("0x10"), guess("1e3"), guess("None"), guess("[2, 4]"), guess("'4'"), guess("a,b")
    (16, 1000.0, None, [2, 4], '4', 'a,b')
    """
    word = text.strip()
    if word.lower() in _TRUE_FALSE_NONE:
        return _TRUE_FALSE_NONE[word.lower()]
    number = read_number(word)
    if number is not None:
        return number
    if word[:1] in ("[", "{", "(", "'", '"') and len(word) <= _MOST_PARSED:
        for parse in (json.loads, ast.literal_eval):
            with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError):
                return parse(word)
    return text


def read_number(text: str) -> int | float | None:
    """The number that a text is, written as in Python; None if it is none.

    Hexadecimal, octal and binary numbers count, because YAML and lm-eval read them before they
    come here.
    """
    for read in (int, _with_base, float):
        with contextlib.suppress(ValueError, OverflowError):
            return read(text)
    return None


def _with_base(text: str) -> int:
    return int(text, 0)
