"""Texts on the page: which part of a proposal was kept and which is new; long ones are clipped."""

from collections.abc import Callable
from dataclasses import dataclass

from rsalign.core.trace import Proposal
from rsalign.core.types import Candidate, Response, Stop, Tokens
from rsalign.report.notes import format_number

Decode = Callable[[Tokens], str]
"""From tokens to their text."""

_MOST_KEPT = 300  # characters before the cut, enough to see where it is
_MOST_NEW = 1200
_MOST_REPLACED = 600
_MOST_OF_TIP = 160
_ENDS = {Stop.EOS: "end", Stop.STOP: "stop", Stop.LENGTH: "cut off", Stop.ABSTAINED: "no answer"}


@dataclass(frozen=True, slots=True)
class Clipped:
    """A text, or the part of one that is shown.

    Attributes:
        text: the part that is shown.
        num_hidden: number of characters that are not shown.
    """

    text: str
    num_hidden: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextParts:
    """A proposal's text.

    Attributes:
        kept: the text before the cut; the end of it, if it is long.
        new: the text that was drawn.
        end: why the response ended; empty if it can go on.
        num_tokens: of the whole response.
    """

    kept: Clipped
    new: Clipped
    end: str
    num_tokens: int


def text_parts(proposal: Proposal, decode: Decode, most_kept: int = _MOST_KEPT) -> TextParts:
    """The text of a proposal in pieces.

    Args:
        proposal: any.
        decode: from tokens to their text.
        most_kept: greatest number of characters before the cut that are shown.
    """
    response = proposal.candidate.response
    kept = _kept(response, proposal.kept, decode)
    return TextParts(
        kept=Clipped(kept[-most_kept:], max(0, len(kept) - most_kept)),
        new=clip(response.text[len(kept) :], _MOST_NEW),
        end=describe_end(response),
        num_tokens=len(response.tokens),
    )


def text_after(response: Response, num_tokens: int, decode: Decode) -> Clipped:
    """The text of a response after its first `num_tokens` tokens."""
    return clip(response.text[len(_kept(response, num_tokens, decode)) :], _MOST_REPLACED)


def clip(text: str, most: int = _MOST_NEW) -> Clipped:
    """The first `most` characters of a text."""
    return Clipped(text[:most], max(0, len(text) - most))


def describe_end(response: Response) -> str:
    """Why a response ended, in a word; empty if it can go on."""
    return "" if response.stop is None else _ENDS.get(response.stop, "")


def tooltip(candidate: Candidate) -> str:
    """Two lines for a tooltip: the reward and the beginning of the text."""
    text = " / ".join(candidate.response.text.split("\n"))
    return f"reward {format_number(candidate.reward)}\n{text[:_MOST_OF_TIP]}"


def _kept(response: Response, num_tokens: int, decode: Decode) -> str:
    """The text of the first tokens, as far as the whole text begins with it.

    A cut may fall inside a character, or before a stop string that is no part of the text.
    """
    if num_tokens == 0:
        return ""
    beginning = decode(response.tokens[:num_tokens]).rstrip("\N{REPLACEMENT CHARACTER}")
    pairs = enumerate(zip(beginning, response.text, strict=False))
    shared = next((i for i, (one, other) in pairs if one != other), len(response.text))
    return beginning[:shared]
