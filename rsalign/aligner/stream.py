"""Streaming: text as soon as it is certain, then the result."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.aligner.outputs import AlignedOutput
from rsalign.types import Tokens


@dataclass(frozen=True, slots=True)
class TextEvent:
    """The next piece of the answer; it is never taken back.

    Attributes:
        text: all pieces together are the answer's text.
    """

    text: str


@dataclass(frozen=True, slots=True)
class ResultEvent:
    """The end.

    Attributes:
        output: what `Aligner.generate` would have returned.
    """

    output: AlignedOutput


Event: TypeAlias = TextEvent | ResultEvent


class Pieces:
    """Texts of an answer that grows token by token.

    An answer is decoded as a whole each time, so that characters whose bytes are split over tokens,
    and spaces that a tokenizer joins to words, come out as in the final text. What may still change
    (an incomplete character, a possible beginning of a stop string) is held back.

    Args:
        decode: text of a whole response.
        stop: strings that end a response and are not part of its text.
    """

    def __init__(self, decode: Callable[[Tokens], str], stop: tuple[str, ...]) -> None:
        self._decode = decode
        self._stop = stop
        self._tokens: Tokens = ()
        self._sent = 0

    def grow(self, tokens: Tokens) -> str:
        """The certain text that more tokens add; may be empty."""
        self._tokens += tokens
        text = self._decode(self._tokens)
        return self._send(text, self._certain(text))

    def finish(self, text: str) -> str:
        """What is left of the final text."""
        return self._send(text, len(text))

    def _send(self, text: str, until: int) -> str:
        piece = text[self._sent : until]
        self._sent = max(self._sent, until)
        return piece

    def _certain(self, text: str) -> int:
        until = len(text.rstrip("\N{REPLACEMENT CHARACTER}"))
        for stop in self._stop:
            found = text.find(stop)
            if found >= 0:
                until = min(until, found)
            for size in range(min(len(stop) - 1, until), 0, -1):
                if text[:until].endswith(stop[:size]):
                    until -= size
                    break
        return until


async def stream(
    answer: Callable[[Callable[[Tokens], None]], "asyncio.Future[AlignedOutput]"], pieces: Pieces
) -> AsyncGenerator[Event, None]:
    """Events of one answer, in order; leaving early cancels it.

    Args:
        answer: starts it, given what to call with each committed piece.
        pieces: turns committed tokens into text.
    """
    arrived: asyncio.Queue[Tokens | None] = asyncio.Queue()
    running = answer(arrived.put_nowait)
    running.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (tokens := await arrived.get()) is not None:
            if text := pieces.grow(tokens):
                yield TextEvent(text)
        output = await running
        if text := pieces.finish(output.outputs[0].text):
            yield TextEvent(text)
        yield ResultEvent(output)
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
