"""Streaming: text as soon as it is certain, where a long run stands, then the result."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.aligner.outputs import AlignedOutput
from rsalign.core.align import OnProgress
from rsalign.core.budget import Usage
from rsalign.core.errors import PolicyError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Policy
from rsalign.core.text.detokenization import Detokenizer
from rsalign.core.text.response_text import Guarded, detokenizer
from rsalign.core.trace import Progress
from rsalign.core.types import Tokens


@dataclass(frozen=True, slots=True)
class TextEvent:
    """The next piece of the answer; it is never taken back.

    Attributes:
        text: all pieces together are the answer's text.
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """Where a strategy that decides at the end stands; its present answer may yet change.

    Attributes:
        answer: what would be the answer now: a text, or what was extracted from it to be voted on.
        share: of the votes that it has, 0 to 1; None where nothing is voted on.
        step: how many steps are done.
        steps: greatest number of steps; a rule may end the run before.
        usage: what was spent so far, of which nothing is kept yet.
    """

    answer: str | None
    share: float | None
    step: int
    steps: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ResultEvent:
    """The end.

    Attributes:
        output: what `Aligner.generate` would have returned.
    """

    output: AlignedOutput


Event: TypeAlias = TextEvent | ProgressEvent | ResultEvent
OnCommit: TypeAlias = Callable[[Tokens], None]


class Pieces:
    """Texts of an answer that grows token by token.

    The detokenizer holds back the beginning of a character. Held back here are the beginning of a
    stop string, and the newest token, which may be the one that ends the answer and has no text
    then. Each token is read once, and only text that was not sent yet is searched.

    Args:
        detokenizer: of this answer.
        stop: strings that end a response and are not part of its text.
    """

    def __init__(self, detokenizer: Detokenizer, stop: tuple[str, ...]) -> None:
        self._detokenizer = detokenizer
        self._stop = stop
        self._newest: Tokens = ()
        self._num_sent = 0
        self._held = ""  # text that was read and not sent
        self._stopped = False

    def grow(self, tokens: Tokens) -> str:
        """The certain text that more tokens add; may be empty."""
        if self._stopped or not tokens:
            return ""
        *certain, newest = *self._newest, *tokens
        self._newest = (newest,)
        self._held += self._detokenizer.read(certain)
        until = self._certain()
        piece, self._held = self._held[:until], self._held[until:]
        self._num_sent += len(piece)
        return piece

    def finish(self, text: str) -> str:
        """What is left of the final text."""
        return text[self._num_sent :]

    def _certain(self) -> int:
        until = len(self._held)
        for stop in self._stop:
            found = self._held.find(stop)
            if found >= 0:
                self._stopped = True
                until = min(until, found)
        for stop in self._stop:
            for size in range(min(len(stop) - 1, until), 0, -1):
                if self._held.endswith(stop[:size], 0, until):
                    until -= size
                    break
        return until


def reader(policy: Policy, prompt: Tokens) -> Detokenizer:
    """The policy's detokenizer for an answer to this prompt; what it raises is a `PolicyError`."""

    def failed(failure: BaseException) -> PolicyError:
        return PolicyError(f"the policy's text() raised {describe_error(failure)}")

    with errors_as(failed):
        return Guarded(detokenizer(policy, prompt), failed)


async def stream(
    answer: Callable[[OnCommit, OnProgress], "asyncio.Future[AlignedOutput]"], pieces: Pieces
) -> AsyncGenerator[Event, None]:
    """Events of one answer, in order; leaving early cancels it.

    Args:
        answer: starts it, given what to call with each committed piece, and with its progress.
        pieces: turns committed tokens into text.
    """
    arrived: asyncio.Queue[Tokens | ProgressEvent | None] = asyncio.Queue()

    def on_progress(progress: Progress, usage: Usage) -> None:
        arrived.put_nowait(
            ProgressEvent(
                answer=progress.answer,
                share=progress.share,
                step=progress.step,
                steps=progress.steps,
                usage=usage,
            )
        )

    running = answer(arrived.put_nowait, on_progress)
    running.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, ProgressEvent):
                yield item
            elif text := pieces.grow(item):
                yield TextEvent(text)
        output = await running
        if text := pieces.finish(output.outputs[0].text):
            yield TextEvent(text)
        yield ResultEvent(output)
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
