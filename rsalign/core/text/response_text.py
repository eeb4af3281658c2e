"""The text of a response: the same for outputs, streams, rewards, stop strings and votes.

The text of a response may depend on its prompt. A policy that detokenizes incrementally
(`Detokenizing`) is therefore given the prompt; for any other policy, `Policy.text` is used.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rsalign.core.errors import RsalignError
from rsalign.core.foreign import errors_as
from rsalign.core.protocols import Policy
from rsalign.core.sampling import stop_end
from rsalign.core.text.detokenization import Detokenizer, Detokenizing, forked
from rsalign.core.text.reasoning import Dividing
from rsalign.core.types import Prompt, Stop, Tokens

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def detokenizer(policy: Policy, prompt: Tokens) -> Detokenizer:
    """Creates a detokenizer for a response to this prompt."""
    if isinstance(policy, Detokenizing):
        return policy.detokenizer(prompt)
    return Redecoding(policy.text)


def token_text(policy: Policy, token: int) -> str:
    """Returns the text of one token, as boundary rules see it."""
    return policy.token_text(token) if isinstance(policy, Detokenizing) else policy.text((token,))


def response_text(
    policy: Policy,
    prompt: Tokens,
    tokens: Tokens,
    *,
    stop: Stop | None = None,
    stop_reason: int | str | None = None,
    stops_after: int = 0,
    read: Callable[[Tokens], str] | None = None,
) -> str:
    """Decodes a response, complete or partial.

    As in vLLM, the text has no special tokens, not the token or string that ended the response, and
    no character whose last bytes are missing.

    Args:
        policy: the policy that drew the response.
        prompt: tokens of the prompt.
        tokens: tokens of the response.
        stop: why it ended; None or ``BOUNDARY``: it may continue.
        stop_reason: the stop string or token that ended it.
        stops_after: ignore stop strings within so many characters (of the first `min_tokens`
            tokens).
        read: decodes the tokens instead of the policy's detokenizer.
    """
    tokens = _shown(tokens, stop, stop_reason)
    text = detokenizer(policy, prompt).read(tokens) if read is None else read(tokens)
    if stop is Stop.STOP and isinstance(stop_reason, str):
        end = stop_end(text, stop_reason, stops_after)
        text = text if end is None else text[: end - len(stop_reason)]
    return text


def read_response(
    policy: Policy,
    prompt: Prompt,
    tokens: Tokens,
    *,
    stop: Stop | None = None,
    stop_reason: int | str | None = None,
    stops_after: int = 0,
    read: Callable[[Tokens], str] | None = None,
) -> tuple[str, str | None]:
    """Decodes a response like `response_text`, and divides it into thought and answer.

    Returns:
        What rewards, votes and users read, and the thought; None if there is none, or if the policy
        does not divide its text (`rsalign.core.text.reasoning`).
    """
    text = response_text(
        policy,
        prompt.tokens,
        tokens,
        stop=stop,
        stop_reason=stop_reason,
        stops_after=stops_after,
        read=read,
    )
    if not isinstance(policy, Dividing) or not policy.divides:
        return text, None
    complete = stop is not None and stop is not Stop.BOUNDARY
    return policy.divide(prompt, _shown(tokens, stop, stop_reason), text, complete=complete)


def _shown(tokens: Tokens, stop: Stop | None, stop_reason: int | str | None) -> Tokens:
    """The tokens without the one that ended the response."""
    by_token = stop is Stop.EOS or (stop is Stop.STOP and not isinstance(stop_reason, str))
    return tokens[:-1] if by_token else tokens


class Redecoding:
    """A detokenizer that decodes the whole response again for each piece.

    Args:
        text: decodes a response from its beginning. It must write an incomplete last character as a
            replacement character, and must not change complete text later.

    Example:
        >>> detokenizer = Redecoding(lambda tokens: bytes(tokens).decode(errors="replace"))
        >>> [detokenizer.read([byte]) for byte in "né".encode()]
        ['n', '', 'é']
    """

    def __init__(self, text: Callable[[Tokens], str]) -> None:
        self._text = text
        self._tokens: Tokens = ()
        self._num_returned = 0

    def fork(self) -> "Redecoding":
        """Returns a copy; see `Forking`."""
        return copy.copy(self)  # its state is immutable values

    def read(self, tokens: Sequence[int]) -> str:
        """See `Detokenizer`."""
        self._tokens += tuple(tokens)
        text = self._text(self._tokens).rstrip(_REPLACEMENT)
        piece = text[self._num_returned :]
        self._num_returned = max(self._num_returned, len(text))
        return piece


@dataclass(frozen=True, slots=True)
class Guarded:
    """A detokenizer whose failures become errors of this package.

    Attributes:
        inner: the detokenizer.
        error: creates the error from the failure.

    Example:
        >>> from rsalign import PolicyError
        >>> broken = Redecoding(lambda tokens: 1 / 0)
        >>> Guarded(broken, lambda failure: PolicyError("cannot decode")).read([1])
        Traceback (most recent call last):
        rsalign.core.errors.PolicyError: cannot decode
    """

    inner: Detokenizer
    error: Callable[[BaseException], RsalignError]

    def fork(self) -> "Guarded | None":
        """Returns a copy with a copy of the inner one; None if that cannot be copied."""
        with errors_as(self.error):
            inner = forked(self.inner)
        return None if inner is None else Guarded(inner, self.error)

    def read(self, tokens: Sequence[int]) -> str:
        """See `Detokenizer`."""
        with errors_as(self.error):
            return self.inner.read(tokens)
