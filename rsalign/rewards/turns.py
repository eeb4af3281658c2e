"""Where a chat template writes a response: the text before it, its own text, and what follows.

A template does not only put text around a response. It may trim it (Llama 3, Gemma), put a space
before it (Llama 2), write an empty thought before it (Qwen3) or take its thought apart. So a
response that is not finished is rendered as the last message of the conversation, like a finished
one, and the text is cut behind it: whatever it becomes later begins with the same text.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rsalign.core.types import Message, Response, Stop

_THOUGHTS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
"""How templates that know thoughts mark their beginning and end."""

Render = Callable[[tuple[Message, ...]], str]
"""Renders a conversation whose last message is the assistant's, with its turn closed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A conversation as text, with the place of the response in it.

    Attributes:
        text: the conversation with the response; the turn is closed if the response is finished.
        start: number of characters before the response.
        end: number of characters up to the end of the response.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Turns:
    """Writes responses as a chat template writes them.

    Attributes:
        render: calls the template.

    Raises:
        ValueError: by its methods, if the template leaves the response out.
        Exception: any other error of the template.

    Example:
        >>> def qwen3(messages):
        ...     return "".join(f"<{m.role}>[no thought]{m.content.strip()}<end>" for m in messages)
        >>> turns = Turns(qwen3)
        >>> messages = (Message("user", "2 + 2"),)
        >>> turns.write(messages, Response((4,), "Four.", Stop.EOS)).text
        '<user>[no thought]2 + 2<end><assistant>[no thought]Four.<end>'
        >>> turns.write(messages, Response((4,), "Four", None)).text
        '<user>[no thought]2 + 2<end><assistant>[no thought]Four'
    """

    render: Render

    def __hash__(self) -> int:
        return id(self.render)

    def write(self, messages: tuple[Message, ...], response: Response) -> Turn:
        """Renders a response; its turn is closed if it is finished.

        A response that may continue keeps the white space at its end, which is in the middle of a
        longer one. One that was cut at its greatest length has lost it if the template trims: what
        is read of it is what is read of the same text when it is finished, without the end.
        """
        before = self.before(messages)
        opened, closing, is_thought = self._cut(messages, response.text)
        if response.stop in (Stop.BOUNDARY, None):
            return _turn(opened, before)
        # the template would take a thought that has not ended for an answer
        whole = opened + closing if is_thought else self._rendered(messages, response.text)
        end = _common(opened, whole)
        if opened[end:].strip():  # the template writes this text otherwise if more follows
            said = response.text.strip()
            end = max(end, whole.rfind(said) + len(said))
        if whole.endswith(closing):  # white space that begins the closing is none of the response
            end = min(end, len(whole) - len(closing))
        turn = _turn(whole[:end], before)
        return Turn(whole, turn.start, end) if response.finished else turn

    def before(self, messages: tuple[Message, ...]) -> str:
        """The text up to where a response begins."""
        return _before(self, messages)

    def opened(
        self, messages: tuple[Message, ...], text: str, marks: Sequence[int]
    ) -> tuple[Turn, tuple[int, ...]]:
        """Renders a response whose turn is left open, and finds positions in it.

        Args:
            messages: the conversation.
            text: of the response.
            marks: numbers of characters of `text`.

        Returns:
            The turn, and for each mark the number of characters of the turn's text up to there.
        """
        before = self.before(messages)
        opened = self._cut(messages, text)[0]
        turn = _turn(opened, before)
        if opened == before + text:
            return turn, tuple(len(before) + mark for mark in marks)
        return turn, tuple(
            len(opened)
            if mark == len(text)
            else _common(self._cut(messages, text[:mark])[0], opened)
            for mark in marks
        )

    def _cut(self, messages: tuple[Message, ...], text: str) -> tuple[str, str, bool]:
        """The conversation up to the end of a response, what closes the turn, and if in a thought.

        A thought that has begun and not ended is still a thought: the template is shown an end of
        it behind the place where the text is cut.
        """
        mark = _mark(text, messages)
        plain, found, closing = self._rendered(messages, text + mark).rpartition(mark)
        for begin, end in _THOUGHTS:
            if text.rfind(begin) > text.rfind(end):
                thought = self._rendered(messages, f"{text}{mark}\n{end}\n\n").rpartition(mark)
                if thought[1] and thought[0] != plain:  # else it leaves thoughts out
                    return thought[0], closing, True
        if not found:
            raise ValueError("the chat template leaves the response out")
        return plain, closing, False

    def _rendered(self, messages: tuple[Message, ...], text: str) -> str:
        return self.render((*messages, Message("assistant", text)))


@lru_cache(maxsize=4096)
def _before(turns: Turns, messages: tuple[Message, ...]) -> str:
    """Cached, as many responses share it."""
    return turns._cut(messages, "")[0]


def _turn(opened: str, before: str) -> Turn:
    return Turn(opened, _common(before, opened), len(opened))


def _common(one: str, other: str) -> int:
    """Number of characters that two texts have in common at their beginning."""
    if other.startswith(one):  # as nearly always, and a hundred times as fast
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _mark(text: str, messages: tuple[Message, ...]) -> str:
    """A text that occurs nowhere in the conversation."""
    for length in itertools.count(3):
        mark = "\ue0c5" * length
        if mark not in text and not any(mark in message.content for message in messages):
            return mark
    raise AssertionError("unreachable")
