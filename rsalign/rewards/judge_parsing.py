"""Finds the verdict in what a judge has written: after its thought, where its template says."""

import math
import re
from collections.abc import Sequence

END_OF_THOUGHT = "</think>"
_THOUGHT = "<think>"
_FENCED = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|bf|rm)\s*\{(.*)\}", re.DOTALL)
_NUMBER = re.compile(r"([+-]?[0-9]+(?:\.[0-9]+)?)\s*(?:/\s*([0-9]+))?")
_AROUND = " \t\r\n*_`\"'.,;:!()$"
"""What judges write around a verdict: emphasis, quotes, punctuation, signs of mathematics."""
_MORE = ("0", ".5", "s")
"""How a verdict at the end of a text that was cut could have gone on."""


class UnreadableError(Exception):
    """There is no verdict; the message says why."""


def after_thought(text: str) -> str:
    """What a judge wrote after its thought, if its model marks one.

    Raises:
        UnreadableError: if the thought has no end.

    Example:
        >>> after_thought("<think>A? No.</think>B")
        'B'
    """
    _, mark, rest = text.rpartition(END_OF_THOUGHT)
    if not mark and _THOUGHT in text:
        raise UnreadableError(f"its thought has no end ({END_OF_THOUGHT})")
    return rest if mark else text


def find_verdict(text: str, pattern: str, *, first: bool, cut: bool) -> str:
    """The part of a judge's text that the pattern's group captures.

    Fenced blocks of code are left out, unless one holds nothing but the verdict: code that a judge
    quotes may look like a verdict.

    Args:
        text: what the judge wrote, without its thought.
        pattern: a regular expression with one group.
        first: whether the first match is the verdict; False: the last.
        cut: whether the text was cut at its greatest length. A verdict at its end is then none if
            more characters could have changed it, as those after "Score: 1" could.

    Raises:
        UnreadableError: if there is no verdict.
    """
    read = re.compile(pattern)

    def unfenced(block: re.Match[str]) -> str:
        inside = block[2].strip()
        return inside if read.fullmatch(inside) else "\n"

    shown = _FENCED.sub(unfenced, text)
    found = list(read.finditer(shown))
    if not found:
        raise UnreadableError(f"it has nothing that the pattern {pattern!r} finds")
    match = found[0] if first else found[-1]
    if cut and match.end() == len(shown):
        for more in _MORE:
            longer = read.match(shown + more, match.start())
            if longer is None or longer[1] != match[1]:
                raise UnreadableError(f"it ends in {match[0]!r}, cut at its greatest length")
    return match[1] or ""


def read_choice(written: str, choices: Sequence[str]) -> str:
    """The choice that a judge has written, in any case and with emphasis or quotes around it.

    Raises:
        UnreadableError: if it is none of the choices.

    Example:
        >>> read_choice(" **a** ", ("A", "B"))
        'A'
    """
    bare = _bare(written)
    for same in (str, str.casefold):
        for choice in choices:
            if written == choice or same(bare) == same(_bare(choice)):
                return choice
    raise UnreadableError(f"its verdict {written[:40]!r} is none of {', '.join(choices)}")


def read_number(written: str, scale: tuple[float, float] | None) -> str:
    r"""The number that a judge has written, as in "7", "7.5", "**7**", "7/10" or "\text{7}".

    Raises:
        UnreadableError: if it is no number, or lies outside the scale.

    Example:
        >>> read_number(" 7/10 ", (1, 10))
        '7'
    """
    found = _NUMBER.fullmatch(_bare(written))
    if found is None or not math.isfinite(float(found[1])):
        raise UnreadableError(f"its verdict {written[:40]!r} is no number")
    if scale is None:
        return found[1]
    low, high = scale
    if not low <= float(found[1]) <= high or (found[2] and float(found[2]) != high):
        scale_text = f"{low:g} .. {high:g}"
        raise UnreadableError(f"its verdict {written[:40]!r} is outside the scale {scale_text}")
    return found[1]


def _bare(written: str) -> str:
    bare = written.strip(_AROUND)
    wrapped = _WRAPPED.fullmatch(bare)
    return wrapped[1].strip(_AROUND) if wrapped else bare
