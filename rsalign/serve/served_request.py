"""One HTTP request from the handler that reads it to the response: asked for, and done so far.

vLLM's own handlers stand between ours and the engine client (`rsalign.serve.client`). They make the
ids of the engine requests themselves, from a header that clients may repeat or from a random
number, and they copy the request's parameters several times; some requests have no field that would
survive. So a `ServedRequest` can neither be found by request id nor travel inside
`SamplingParams.extra_args`. It is in a context variable instead: the tasks that vLLM starts on the
way inherit it, and nobody else sees it.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from rsalign.core.align import Result
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.trace import Progress
from rsalign.core.types import Message
from rsalign.serve.draw_window import DrawShare
from rsalign.serve.rules import StrategyRequest


@dataclass(slots=True, kw_only=True)
class ServedRequest:
    """One request that a strategy answers; its prompts and their answers add to it.

    The answers of all prompts together are the choices of the response, numbered from 0.

    Attributes:
        asked: what the request asks for.
        num_prompts: how many prompts it has; they share its budget.
        conversations: of each prompt, in order, for the reward; a prompt without one is judged by
            its text.
        num_begun: how many prompts have been given to the client.
        num_expected: number of answers to these prompts.
        num_ended: how many of these answers are complete or failed for lack of a token.
        has_tokens: whether any of these has a token.
        results: complete answers by the number of their choice.
        failure: why there will be no more answers.
        reports_failure: whether a stream that fails before its first event looks at `failure`.
        streamed: whether any text was certain before its answer was complete.
        progress: of a strategy that decides at the end.
        seconds: from the first prompt to the newest answer.
        seed: root of the randomness; None until the first prompt.
        share: of the engine's places for draws; None until the first prompt.
        admitted: whether a handler has made room for all of its prompts.

    Example:
        >>> from rsalign.serve.rules import RequestRules
        >>> from rsalign.words.read import Specification
        >>> served = ServedRequest(asked=RequestRules().read(Specification(name="plain")))
        >>> served.begin_prompt(num_answers=2), served.begin_prompt(num_answers=2)
        ((0, 0), (1, 2))
    """

    asked: StrategyRequest
    num_prompts: int = 1
    conversations: list[tuple[Message, ...]] = field(default_factory=list, repr=False)
    num_begun: int = 0
    num_expected: int = 0
    num_ended: int = 0
    has_tokens: bool = False
    results: dict[int, Result] = field(default_factory=dict, repr=False)
    failure: Exception | None = field(default=None, repr=False)
    reports_failure: bool = False
    streamed: bool = False
    progress: Progress | None = field(default=None, repr=False)
    seconds: float = 0.0
    seed: int | None = None
    share: DrawShare | None = field(default=None, repr=False)
    admitted: bool = False

    @property
    def complete(self) -> bool:
        """Whether all answers are complete."""
        return 0 < self.num_expected == len(self.results)

    def begin_prompt(self, num_answers: int) -> tuple[int, int]:
        """Counts another prompt.

        Returns:
            Its number, and the number of its first choice.
        """
        begun = self.num_begun, self.num_expected
        self.num_begun += 1
        self.num_expected += num_answers
        return begun

    def end_answer(self, result: Result) -> None:
        """Counts an answer that has ended; an abstention needs no token.

        Raises:
            ConfigError: if it was the last one, none has a token, and the request's own budget was
                too small.
            PolicyError: likewise, if the budget was the server's, or the reward failed first.
        """
        self.num_ended += 1
        self.has_tokens |= bool(result.candidate.tokens) or result.abstained
        if self.has_tokens or self.num_ended < self.num_expected:
            return
        if result.trace.notes.get("reward_failed"):
            raise PolicyError("the reward failed before the first token was drawn: try again")
        kind = ConfigError if self.asked.has_own_budget else PolicyError
        raise kind("the budget ended before the first token: allow more of it")


@dataclass(frozen=True, slots=True)
class _Handled:
    """That one of our handlers has read the request under way; None: the engine answers it."""

    request: ServedRequest | None


_CURRENT: "ContextVar[_Handled | None]" = ContextVar("rsalign_served_request", default=None)


def was_handled() -> bool:
    """Whether one of our handlers has read the request under way."""
    return _CURRENT.get() is not None


def current_request() -> ServedRequest | None:
    """The request under way; None if the engine answers it, or no handler of ours has read it."""
    handled = _CURRENT.get()
    return None if handled is None else handled.request


@contextlib.contextmanager
def handle_as(request: ServedRequest | None) -> Iterator[None]:
    """While the block runs, the client answers this request; None: the engine itself answers."""
    token = _CURRENT.set(_Handled(request))
    try:
        yield
    finally:
        _CURRENT.reset(token)


async def handle_events_as(
    events: AsyncGenerator[Any, None], request: ServedRequest
) -> AsyncGenerator[Any, None]:
    """The same events; `handle_as` holds while each of them is made."""
    async with contextlib.aclosing(events):
        while True:
            with handle_as(request):
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
            yield event
