"""The texts of responses that may be continued: a longer one is not decoded from its beginning."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.core.protocols import Policy
from rsalign.core.text.detokenization import Detokenizer, forked
from rsalign.core.text.response_text import detokenizer
from rsalign.core.types import Tokens

_MOST = 256  # a population of as many can be continued; each holds a text

Place: TypeAlias = tuple[Tokens, Tokens]
"""A prompt, and the tokens of a response to it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known at a place.

    Attributes:
        policy: that the tokens were drawn from.
        reader: has read the tokens; only copies of it read on.
        text: of the tokens.
    """

    policy: Policy
    reader: Detokenizer
    text: str


class PartialTexts:
    """Decodes responses that grow segment by segment, each segment once.

    Decoding each longer response anew would cost the square of its length. It remembers the last
    256 responses, where the policy's detokenizer can be copied (`Forking`).

    Example:
        >>> from rsalign.testing import ToyPolicy
        >>> texts, policy = PartialTexts(), ToyPolicy()
        >>> texts.read(policy, (1,), (1, 2), kept=0, continues=True)
        '1 2'
        >>> texts.read(policy, (1,), (1, 2, 1), kept=2, continues=False)
        '1 2 1'
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Place, _Known] = OrderedDict()

    def read(
        self, policy: Policy, prompt: Tokens, tokens: Tokens, *, kept: int, continues: bool
    ) -> str:
        """Returns the text of a response.

        Args:
            policy: that drew it.
            prompt: tokens of the prompt.
            tokens: tokens of the response.
            kept: number of its first tokens that were a response by themselves, perhaps read here.
            continues: whether a longer response may be read that begins with these tokens.
        """
        reader: Detokenizer | None = None
        known = self._known.get((prompt, tokens[:kept])) if kept else None
        if known is not None and known.policy is policy:
            reader, text = forked(known.reader), known.text
        if reader is None:
            reader, text, kept = detokenizer(policy, prompt), "", 0
        text += reader.read(tokens[kept:])
        if continues and (copied := forked(reader)) is not None:
            self._remember((prompt, tokens), _Known(policy, copied, text))
        return text

    def _remember(self, place: Place, known: _Known) -> None:
        self._known[place] = known
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
