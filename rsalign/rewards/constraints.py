"""Constraints on the text of an answer: texts that it must not contain, a pattern that it matches.

Each is true of an open response as long as some continuation may still be allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings, quote, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.types import Prompt, Response

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # a character of which not all bytes are drawn


@dataclass(frozen=True, slots=True)
class Without:
    """Allows a response that contains none of some texts, in any case of letters.

    Attributes:
        texts: what must not occur, ``(texts,)``, at least one, none empty. A single text counts as
            a list of one.

    Raises:
        ConfigError: if there is none, or one is empty.

    Example:
        >>> import asyncio
        >>> from rsalign import Prompt, Response, Stop
        >>> response = Response((2,), "I cannot say.", Stop.EOS)
        >>> asyncio.run(Without("i cannot").allows(Prompt((), (1,)), response))
        False
    """

    texts: str | Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            object.__setattr__(self, "texts", (self.texts,))
        check_settings(self)
        if not self.texts or not all(self.texts):
            raise setting_error(self, "texts", "at least one text, none of them empty")

    async def allows(self, prompt: Prompt, response: Response) -> bool:
        """Whether none of the texts occurs so far."""
        text = response.text.casefold()
        return not any(forbidden.casefold() in text for forbidden in self.texts)


@dataclass(frozen=True, slots=True)
class Matching:
    """Allows a response whose whole text matches a regular expression.

    An open response is allowed if its text can be continued to a match. The syntax is that of the
    Python package ``regex``, which can tell this.

    Attributes:
        pattern: the regular expression, such as ``"(yes|no)[.]?"``.
        strip: whether white space around the text is ignored.

    Raises:
        ConfigError: if it is not a regular expression.

    Example:
        >>> import asyncio
        >>> from rsalign import Prompt, Response, Stop
        >>> prompt, answer = Prompt((), (1,)), Matching("yes|no")
        >>> asyncio.run(answer.allows(prompt, Response((2,), "ye", Stop.BOUNDARY)))
        True
        >>> asyncio.run(answer.allows(prompt, Response((2,), "ye", Stop.EOS)))
        False
    """

    pattern: str
    strip: bool = True

    def __post_init__(self) -> None:
        check_settings(self, pattern=at_least(1))
        import regex

        try:
            regex.compile(self.pattern)
        except regex.error as failure:
            raise ConfigError(
                f"Matching(pattern={quote(self.pattern)}): give a regular expression ({failure})"
            ) from None

    async def allows(self, prompt: Prompt, response: Response) -> bool:
        """Whether the text matches, or can be continued to a match."""
        import regex

        text = response.text
        if response.complete:
            text = text.strip() if self.strip else text
            return regex.fullmatch(self.pattern, text) is not None
        text = text.rstrip(_INCOMPLETE)
        # white space at the end of an open response may be within a match, or around it
        ends = {text.lstrip(), text.strip()} if self.strip else {text}
        return any(regex.fullmatch(self.pattern, end, partial=True) is not None for end in ends)
