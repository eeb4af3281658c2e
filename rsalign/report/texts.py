"""What of a proposal's text was kept, and what is new; long ones are shortened, and say so."""

from collections.abc import Callable
from dataclasses import dataclass

from rsalign.core.trace import Proposal
from rsalign.core.types import Candidate, Response, Stop, Tokens
from rsalign.report.notes import number

Decode = Callable[[Tokens], str]

_MOST_KEPT = 300  # characters before the cut: enough to see where it fell
_MOST_NEW = 1200
_MOST_REPLACED = 600
_MOST_OF_TIP = 160
_ENDS = {Stop.EOS: "end", Stop.STOP: "stop", Stop.LENGTH: "cut off"}


@dataclass(frozen=True, slots=True)
class Clipped:
    """A text, or the part of one that is shown.

    Attributes:
        text: what is shown.
        num_hidden: characters that are not.
    """

    text: str
    num_hidden: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A proposal's text.

    Attributes:
        kept: what stayed of the state before; its end, if it is long.
        new: what was drawn.
        end: why the response ended; empty if it is open.
        num_tokens: of the whole response.
    """

    kept: Clipped
    new: Clipped
    end: str
    num_tokens: int


def parts(proposal: Proposal, decode: Decode, most_kept: int = _MOST_KEPT) -> Parts:
    """The text of a proposal in pieces.

    Args:
        proposal: what was tried.
        decode: text of given tokens.
        most_kept: characters that are shown of what was kept.
    """
    response = proposal.candidate.response
    kept = _kept(response, proposal.kept, decode)
    return Parts(
        kept=Clipped(kept[-most_kept:], max(0, len(kept) - most_kept)),
        new=clipped(response.text[len(kept) :], _MOST_NEW),
        end=end(response),
        num_tokens=len(response.tokens),
    )


def rest(response: Response, num_tokens: int, decode: Decode) -> Clipped:
    """The text after the first tokens of a response."""
    return clipped(response.text[len(_kept(response, num_tokens, decode)) :], _MOST_REPLACED)


def clipped(text: str, most: int = _MOST_NEW) -> Clipped:
    """The beginning of a text."""
    return Clipped(text[:most], max(0, len(text) - most))


def end(response: Response) -> str:
    """Why a response ended, in a word; empty if it is open."""
    return "" if response.stop is None else _ENDS.get(response.stop, "")


def tip(candidate: Candidate) -> str:
    """Two lines for a tooltip."""
    text = " / ".join(candidate.response.text.split("\n"))
    return f"reward {number(candidate.reward)}\n{text[:_MOST_OF_TIP]}"


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
