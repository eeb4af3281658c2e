"""The text of a response: the same for outputs, streams, rewards, stop strings and votes.

A policy that can tell how text grows (`Detokenizing`) is asked with the prompt, on which the text
of a response may depend. Any other policy's `text` is the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rsalign.core.errors import RsalignError
from rsalign.core.foreign import errors_as
from rsalign.core.protocols import Policy
from rsalign.core.sampling import stop_end
from rsalign.core.text.detokenization import Detokenizer, Detokenizing
from rsalign.core.types import Stop, Tokens

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def detokenizer(policy: Policy, prompt: Tokens) -> Detokenizer:
    """The text of a response to this prompt, as its tokens come."""
    if isinstance(policy, Detokenizing):
        return policy.detokenizer(prompt)
    return Redecoding(policy.text)


def token_text(policy: Policy, token: int) -> str:
    """The text of one token, as rules for the end of a segment see it."""
    return policy.token_text(token) if isinstance(policy, Detokenizing) else policy.text((token,))


def response_text(
    policy: Policy,
    prompt: Tokens,
    tokens: Tokens,
    *,
    stop: Stop | None = None,
    stop_reason: int | str | None = None,
    stops_after: int = 0,
) -> str:
    """The text of a whole response, or of one that is not complete.

    As vLLM's: without special tokens, without the token or the string that ended the response, and
    without a character whose last bytes are missing.

    Args:
        policy: that drew it.
        prompt: what it answers.
        tokens: of the response.
        stop: why it ended; None or ``BOUNDARY``: it may go on.
        stop_reason: the stop string or token that ended it.
        stops_after: the stop string ends beyond so many characters (those of `min_tokens` tokens).
    """
    if stop is Stop.EOS or (stop is Stop.STOP and not isinstance(stop_reason, str)):
        tokens = tokens[:-1]
    text = detokenizer(policy, prompt).read(tokens)
    if stop is Stop.STOP and isinstance(stop_reason, str):
        end = stop_end(text, stop_reason, stops_after)
        text = text if end is None else text[: end - len(stop_reason)]
    return text


class Redecoding:
    """The text of a response by a function that decodes it as a whole, anew for each piece.

    Args:
        text: decodes a response from its beginning. A character that is incomplete must be a
            replacement character at the end, and what is complete must not change later.
    """

    def __init__(self, text: Callable[[Tokens], str]) -> None:
        self._text = text
        self._tokens: Tokens = ()
        self._num_told = 0

    def read(self, tokens: Sequence[int]) -> str:
        """See `Detokenizer`."""
        self._tokens += tuple(tokens)
        text = self._text(self._tokens).rstrip(_REPLACEMENT)
        piece = text[self._num_told :]
        self._num_told = max(self._num_told, len(text))
        return piece


@dataclass(frozen=True, slots=True)
class Guarded:
    """A detokenizer of foreign code, whose failures are errors of ours.

    Attributes:
        inner: reads.
        error: makes the error, given what was raised.
    """

    inner: Detokenizer
    error: Callable[[BaseException], RsalignError]

    def read(self, tokens: Sequence[int]) -> str:
        """See `Detokenizer`."""
        with errors_as(self.error):
            return self.inner.read(tokens)
