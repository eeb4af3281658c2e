"""One request that a strategy answers: its answers, and what is sent of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rsalign.aligner.batch import num_different, repeated
from rsalign.aligner.inputs import Request
from rsalign.aligner.outputs import AlignedOutput, best_first, output
from rsalign.aligner.request_outputs import request_output
from rsalign.core.align import Result, align
from rsalign.core.budget import Usage
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.key import Key
from rsalign.core.protocols import Policy, Reward
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Progress
from rsalign.core.types import Tokens
from rsalign.serve.deltas import Growth
from rsalign.serve.observe import Observation
from rsalign.serve.request import Wanted
from rsalign.strategies.plain import Plain

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput, SamplingParams

OnTokens = Callable[[Tokens], None]


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """What is needed to answer, and the task that does.

    Attributes:
        request_id: what the caller calls it.
        wanted: the strategy; its budget is that of each answer.
        asked: the prompt, the law, the number of answers.
        params: as the caller gave them, presentation included.
        text: of the prompt, if the caller gave it.
        tokenizer: the policy's.
        policy: under the law that is asked for; if given a function, that is called with the tokens
            of each draw as they come.
        reward: judges.
        key: the address below which it draws.
        place: of the first answer among all of the request's choices.
        trace_headers: of its client.
    """

    request_id: str
    wanted: Wanted
    asked: Request
    params: "SamplingParams"
    text: str | None
    tokenizer: Any
    policy: Callable[[OnTokens | None, Mapping[str, str]], Policy]
    reward: Reward | None
    key: Key
    place: int
    trace_headers: Mapping[str, str]
    _running: "asyncio.Future[list[Result]] | None" = None
    _aborted: bool = False
    _results: dict[int, Result] = field(default_factory=dict)
    _repeats: list[Result] = field(default_factory=list)
    _found: asyncio.Event = field(default_factory=asyncio.Event)
    _streamed: "asyncio.Queue[_Event | None]" = field(default_factory=asyncio.Queue)

    def abort(self) -> None:
        """Ends it; what was certain is its answer."""
        self._aborted = True
        if self._running is not None:
            self._running.cancel()

    async def outputs(self, observed: Observation) -> AsyncGenerator["RequestOutput", None]:
        """As `AsyncLLM.generate`, by the output kind of `params`; leaving early cancels all.

        Raises:
            RsalignError: as `align`.
        """
        from vllm.sampling_params import RequestOutputKind

        at_once = self.params.output_kind == RequestOutputKind.FINAL_ONLY
        growing: dict[int, Growth] = {}
        if not at_once:
            growing = {
                i: Growth(i, self.params, self.asked.prompt.tokens, self.tokenizer)
                for i in range(self.asked.n)
            }
        answers = (self._answer(i, observed, at_once=at_once) for i in range(self.asked.n))
        self._running = asyncio.ensure_future(concurrently(answers))
        self._running.add_done_callback(lambda _: self._streamed.put_nowait(None))
        try:
            while (events := await self._events()) is not None:
                if pieces := self._pieces(events, growing):
                    yield self._output(pieces, finished=not growing)
            if self._aborted and self._running.cancelled():
                yield self._output(self._cut(growing), finished=True)
            elif at_once:
                yield self._whole(await self._running)
            else:
                await self._running  # raises what made it stop
        finally:
            if not self._running.done():
                self._running.cancel()
                await asyncio.wait([self._running])

    async def _answer(self, index: int, observed: Observation, *, at_once: bool) -> Result:
        committed: Tokens = ()
        num_commits = 0

        def certain(tokens: Tokens) -> None:
            if not at_once:
                self._streamed.put_nowait(_Event(index, tokens))

        def on_commit(tokens: Tokens) -> None:
            nonlocal committed, num_commits
            committed += tokens
            num_commits += 1
            observed.committed(tokens)
            certain(committed)
            self.wanted.ledger.streamed |= not at_once and num_commits > 1

        def on_progress(progress: Progress, _: Usage) -> None:
            self.wanted.ledger.progress = progress

        on_draw: OnTokens | None = None
        if not at_once and type(self.wanted.strategy) is Plain:  # what it draws is its answer
            on_draw, self.wanted.ledger.streamed = certain, True
        key = self.key
        policy = self.policy(on_draw, observed.trace_headers)
        num_runs = num_different(self.asked, policy)
        if index < num_runs:
            result = await align(
                self.asked.prompt,
                self.asked.strategy,
                policy=policy,
                reward=self.reward,
                seed=key if self.asked.n == 1 else key.child("sample", index),
                on_commit=on_commit,
                on_progress=on_progress,
                budget=self.wanted.budget,
                on_reward_error="best" if self.wanted.on_reward_error == "best" else "raise",
            )
            if num_runs < self.asked.n:
                self._repeats = repeated(result, self.asked.n - num_runs)
                self._found.set()
        else:
            await self._found.wait()
            result = self._repeats[index - num_runs]
        self._require_a_token(result)
        observed.answered(result)
        if not at_once:
            self.wanted.ledger.results[self.place + index] = result
            self._streamed.put_nowait(_Event(index, result.candidate.tokens, result))
        return result

    def _require_a_token(self, result: Result) -> None:
        """Refuses a request none of whose answers has even a token; one that has is answered.

        Raises:
            ConfigError: with the last of the request's answers, if its own budget was too small.
            PolicyError: likewise, if that was the server's, or the reward failed first.
        """
        ledger = self.wanted.ledger
        ledger.num_ended += 1
        ledger.has_tokens |= bool(result.candidate.tokens)
        if ledger.has_tokens or ledger.num_ended < ledger.expected:
            return
        if result.trace.notes.get("reward_failed"):
            raise PolicyError("the reward failed before the first token was drawn: try again")
        kind = ConfigError if self.wanted.has_own_budget else PolicyError
        raise kind("the budget ended before the first token: allow more of it")

    async def _events(self) -> "dict[int, _Event] | None":
        """The newest of each answer, as many as have happened meanwhile; None at the end."""
        newest: dict[int, _Event] = {}
        event = await self._streamed.get()
        while event is not None:
            newest[event.index] = event
            if self._streamed.empty():
                return newest
            event = self._streamed.get_nowait()
        self._streamed.put_nowait(None)
        return newest or None

    def _pieces(
        self, events: "Mapping[int, _Event]", growing: dict[int, Growth]
    ) -> list["CompletionOutput"]:
        pieces = []
        for index, event in events.items():
            if event.result is not None:
                growth = growing.pop(index)
                self._results[index] = event.result
                (answer,) = self._answered([event.result]).outputs
                pieces.append(growth.finish(answer))
            elif piece := growing[index].grow(event.tokens):
                pieces.append(piece)
        return pieces

    def _answered(self, results: Sequence[Result]) -> AlignedOutput:
        return output(self.request_id, self.asked.prompt, self.wanted.strategy, results)

    def _cut(self, growing: Mapping[int, Growth]) -> list["CompletionOutput"]:
        from vllm.outputs import CompletionOutput

        if growing:
            return [growth.cut("abort") for growth in growing.values()]
        return [
            CompletionOutput(i, "", [], None, None, finish_reason="abort")
            for i in range(self.asked.n)
        ]

    def _whole(self, results: list[Result]) -> "RequestOutput":
        answered = self._answered(results)
        # the choices are best first, and so are their reports
        self.wanted.ledger.results.update(enumerate(best_first(results), self.place))
        whole = request_output(
            answered, self.params, self.tokenizer, request_id=self.request_id, prompt=self.text
        )
        whole.num_cached_tokens = min(whole.num_cached_tokens, len(self.asked.prompt.tokens))
        return whole

    def _output(self, pieces: list["CompletionOutput"], *, finished: bool) -> "RequestOutput":
        from vllm.outputs import RequestOutput

        whole = RequestOutput(
            request_id=self.request_id,
            prompt=self.text,
            prompt_token_ids=list(self.asked.prompt.tokens),
            prompt_logprobs=None,
            outputs=pieces,
            finished=finished,
            num_cached_tokens=0,
        )
        if len(self._results) == self.asked.n:
            whole.alignment = self._answered(
                [self._results[i] for i in range(self.asked.n)]
            ).alignment
        return whole


@dataclass(frozen=True, slots=True)
class _Event:
    """The answer of this number now begins with these tokens; with a result it is complete."""

    index: int
    tokens: Tokens
    result: Result | None = None
