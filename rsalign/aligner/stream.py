"""Streaming: an answer's text as soon as it is certain, a long run's progress, then the result."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.requests import Request
from rsalign.core.answer import AnswerListener
from rsalign.core.budget import Usage
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Policy, get_sampling
from rsalign.core.text.detokenization import Detokenizer
from rsalign.core.text.reasoning import Dividing
from rsalign.core.text.response_text import Guarded, Redecoding, detokenizer, response_text
from rsalign.core.trace import Progress
from rsalign.core.types import Tokens


@dataclass(frozen=True, slots=True)
class TextEvent:
    """The next piece of the answer's text; it is never taken back.

    Attributes:
        text: all pieces together are the answer's text.

    Example:
        >>> pieces = [TextEvent("It is"), TextEvent(" 4")]
        >>> "".join(event.text for event in pieces)
        'It is 4'
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """The progress of a strategy that decides at the end; its present answer may still change.

    Attributes:
        answer: what would be the answer now: a text, or what was extracted from it to be voted on.
        share: of the votes that it has, 0 to 1; None where nothing is voted on.
        step: how many steps are done.
        steps: greatest number of steps; a rule may end the run before.
        usage: what was spent so far; no token is kept yet.

    Example:
        >>> event = ProgressEvent(answer="4", share=0.75, step=3, steps=8, usage=Usage())
        >>> f"{event.answer} has {event.share:.0%} of the votes, step {event.step} of {event.steps}"
        '4 has 75% of the votes, step 3 of 8'
    """

    answer: str | None
    share: float | None
    step: int
    steps: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ResultEvent:
    """The last event.

    Attributes:
        output: what `Aligner.generate` would have returned.

    Example:
        >>> import asyncio
        >>> from rsalign import Aligner, Plain
        >>> from rsalign.testing import ToyPolicy
        >>> async def last() -> Event:
        ...     async with Aligner(ToyPolicy(4), None, Plain(max_tokens=3)) as aligner:
        ...         return [event async for event in aligner.astream("1")][-1]
        >>> event = asyncio.run(last())
        >>> isinstance(event, ResultEvent), len(event.output.outputs)
        (True, 1)
    """

    output: AlignedOutput


Event: TypeAlias = TextEvent | ProgressEvent | ResultEvent
"""What `Aligner.astream` yields."""


class StreamedText:
    """Turns the tokens of a growing answer into text that will not change any more.

    The detokenizer holds back an incomplete character. This class holds back what may be the
    beginning of a stop string, and the newest token, which has no text if it turns out to end the
    answer. Each token is decoded once, and only text that was not sent yet is searched.

    Args:
        detokenizer: of this answer.
        stop: strings that end a response and are not part of its text.

    Example:
        >>> from rsalign.core.text.response_text import Redecoding
        >>> text = StreamedText(Redecoding(lambda tokens: "".join(map(chr, tokens))), stop=("end",))
        >>> [text.add((ord(letter),)) for letter in "abend"]
        ['', 'a', 'b', '', '']
    """

    def __init__(self, detokenizer: Detokenizer, stop: tuple[str, ...]) -> None:
        self._detokenizer = detokenizer
        self._stop = stop
        self._newest: Tokens = ()
        self._num_sent = 0
        self._held = ""  # text that was read and not sent
        self._stopped = False

    def add(self, tokens: Tokens) -> str:
        """Adds tokens and returns the text that has become certain; may be empty."""
        if self._stopped or not tokens:
            return ""
        *certain, newest = *self._newest, *tokens
        self._newest = (newest,)
        self._held += self._detokenizer.read(certain)
        until = self._count_certain()
        piece, self._held = self._held[:until], self._held[until:]
        self._num_sent += len(piece)
        return piece

    def finish(self, text: str) -> str:
        """The rest of the answer's final text."""
        return text[self._num_sent :]

    def _count_certain(self) -> int:
        """How many of the held characters no later token can change."""
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


class StreamedAnswer(StreamedText):
    """As `StreamedText`, of a reasoning model: its answer, once its thought has ended.

    Args:
        read: returns the answer in the first tokens of a response; empty within the thought.
        stop: strings that end a response and are not part of its text.

    Example:
        >>> text = StreamedAnswer(lambda tokens: "".join(map(chr, tokens[2:])), stop=())
        >>> [text.add((ord(letter),)) for letter in "abcd"], text.finish("cd")
        (['', '', '', 'c'], 'd')
    """

    def __init__(self, read: Callable[[Tokens], str], stop: tuple[str, ...]) -> None:
        super().__init__(Redecoding(lambda tokens: ""), stop)
        self._read = read
        self._tokens: Tokens = ()

    def add(self, tokens: Tokens) -> str:
        """Adds tokens and returns the text of the answer that has become certain."""
        if self._stopped or not tokens:
            return ""
        self._tokens += tokens
        # the newest token has no text if it turns out to end the answer
        self._held = self._read(self._tokens[:-1])[self._num_sent :]
        piece = self._held[: self._count_certain()]
        self._num_sent += len(piece)
        return piece


class _EventQueue(AnswerListener):
    """Collects the committed tokens and the progress of one answer, in order; None is the end."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[Tokens | ProgressEvent | None] = asyncio.Queue()

    def on_commit(self, sample: int, tokens: Tokens) -> None:
        """Queues tokens of the answer."""
        self.arrived.put_nowait(tokens)

    def on_progress(self, sample: int, progress: Progress, usage: Usage) -> None:
        """Queues a `ProgressEvent`."""
        event = ProgressEvent(
            answer=progress.answer,
            share=progress.share,
            step=progress.step,
            steps=progress.steps,
            usage=usage,
        )
        self.arrived.put_nowait(event)


def require_streamable(requests: Sequence[Request | AlignedOutput]) -> Request:
    """The one request of a call of `Aligner.astream`.

    Raises:
        ConfigError: if there are several, or its text is not presented as usual.
    """
    request = requests[0]
    if len(requests) != 1 or not isinstance(request, Request) or request.n != 1:
        raise ConfigError("astream answers one prompt once: leave n=1, or use agenerate")
    if request.presentation is not None:
        raise ConfigError(
            "astream shows text as usual: leave out logprobs, detokenize, "
            "skip_special_tokens and the like, or use agenerate"
        )
    return request


async def stream_events(
    request: Request, answer: Callable[[AnswerListener], Coroutine[Any, Any, AlignedOutput]]
) -> AsyncGenerator[Event, None]:
    """The events of one answer, in order; leaving early cancels it.

    Args:
        request: what is answered.
        answer: answers it, given who is to be told of its progress.

    Raises:
        PolicyError: if the policy's detokenizer failed.
    """
    text = _open_text(request)
    queue = _EventQueue()
    running = asyncio.ensure_future(answer(queue))
    running.add_done_callback(lambda _: queue.arrived.put_nowait(None))
    try:
        while (item := await queue.arrived.get()) is not None:
            if isinstance(item, ProgressEvent):
                yield item
            elif piece := text.add(item):
                yield TextEvent(piece)
        output = await running
        if piece := text.finish(output.outputs[0].text):
            yield TextEvent(piece)
        yield ResultEvent(output)
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running])


def _open_text(request: Request) -> StreamedText:
    """What turns the tokens of a request's answer into text.

    Raises:
        PolicyError: if the policy's detokenizer fails, now or as it reads.
    """
    policy, prompt = request.policy, request.prompt
    stop = get_sampling(policy).stop
    decoded = _open_detokenizer(policy, prompt.tokens)
    if not isinstance(policy, Dividing) or not policy.divides:
        return StreamedText(decoded, stop)

    def read(tokens: Tokens) -> str:
        with errors_as(_reading_failed):
            whole = response_text(policy, prompt.tokens, tokens)
            return policy.divide(prompt, tokens, whole, complete=True)[0]

    return StreamedAnswer(read, stop)


def _open_detokenizer(policy: Policy, prompt: Tokens) -> Detokenizer:
    """The policy's detokenizer for an answer to this prompt.

    Raises:
        PolicyError: what it raises, now or as it reads.
    """
    with errors_as(_reading_failed):
        return Guarded(detokenizer(policy, prompt), _reading_failed)


def _reading_failed(failure: BaseException) -> PolicyError:
    return PolicyError(f"the policy's text() raised {describe_error(failure)}")
