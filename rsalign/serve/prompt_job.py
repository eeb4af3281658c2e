"""One prompt of a request that a strategy answers, and the outputs that are sent of its answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from rsalign.aligner.outputs import AlignedOutput, make_output
from rsalign.aligner.request_outputs import to_request_output
from rsalign.aligner.requests import Request
from rsalign.core.align import Result
from rsalign.core.answer import AnswerListener, answer, rank_results
from rsalign.core.budget import Usage
from rsalign.core.capabilities import answers_in_one_draw, excludes
from rsalign.core.errors import RewardError
from rsalign.core.key import Key
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.trace import Progress
from rsalign.core.types import Tokens
from rsalign.serve.delta_stream import DeltaStream
from rsalign.serve.observe import Observation
from rsalign.serve.served_request import ServedRequest
from rsalign.strategies.plain import Plain
from rsalign.words.length import greatest_length

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput, SamplingParams

OnTokens: TypeAlias = Callable[[Tokens], None]
"""Is called with all tokens of a draw so far, as they come."""
WatchPolicy: TypeAlias = Callable[[Policy, OnTokens | None, Mapping[str, str]], Policy]
"""Makes a view of a policy whose draws are watched, and whose engine requests have trace headers.
"""


@dataclass(slots=True, kw_only=True, eq=False)
class PromptJob(AnswerListener):
    """Answers one prompt, and tells its HTTP request what becomes of it.

    Attributes:
        request_id: the caller's.
        served: the HTTP request that the prompt belongs to.
        request: the prompt, the tuned policy, the number of answers, the budget of each.
        params: as the caller gave them, presentation included.
        text: of the prompt, if the caller gave text.
        tokenizer: the policy's.
        watch: makes a view of the policy for one answer.
        reward: judges.
        parts: further models and judges, by name.
        degrades: whether the answer is a plain draw if the reward fails.
        key: the address of the prompt.
        first_choice: the number of its first answer among all choices of the HTTP request.
        trace_headers: of the client.
    """

    request_id: str
    served: ServedRequest
    request: Request
    params: "SamplingParams"
    text: str | None
    tokenizer: Any
    watch: WatchPolicy
    reward: Reward | None
    parts: Mapping[str, Any]
    degrades: bool
    key: Key
    first_choice: int
    trace_headers: Mapping[str, str]
    _observed: Observation = field(init=False)
    _streams: bool = False
    _running: "asyncio.Future[list[Result]] | None" = None
    _aborted: bool = False
    _expire: list[Callable[[], None]] = field(default_factory=list)
    _committed: dict[int, Tokens] = field(default_factory=dict)
    _results: dict[int, Result] = field(default_factory=dict)
    _events: "asyncio.Queue[_Event | None]" = field(default_factory=asyncio.Queue)

    def abort(self) -> None:
        """Ends the job; its answers are what was certain by then."""
        self._aborted = True
        if self._running is not None:
            self._running.cancel()

    def expire(self) -> None:
        """Ends the job with its best answers so far."""
        for expire in self._expire:
            expire()

    def on_start(self, sample: int, expire: Callable[[], None]) -> None:
        """Keeps what ends the answer."""
        self._expire.append(expire)

    async def stream_outputs(self, observed: Observation) -> AsyncGenerator["RequestOutput", None]:
        """The outputs, as many as `params.output_kind` asks for; leaving early cancels all.

        Raises:
            RsalignError: as `rsalign.core.answer.answer`; also if no answer to the HTTP request has
                a token (`ServedRequest.end_answer`).
        """
        from vllm.sampling_params import RequestOutputKind

        self._observed = observed
        self._streams = self.params.output_kind != RequestOutputKind.FINAL_ONLY
        streams: dict[int, DeltaStream] = {}
        if self._streams:
            prompt = self.request.prompt.tokens
            streams = {
                i: DeltaStream(i, self.params, prompt, self.tokenizer)
                for i in range(self.request.n)
            }
        self._running = asyncio.ensure_future(self._answer())
        self._running.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            while (events := await self._next_events()) is not None:
                if pieces := self._make_pieces(events, streams):
                    yield self._make_partial(pieces, finished=not streams)
            if self._aborted and self._running.cancelled():
                yield self._make_partial(self._make_aborted(streams), finished=True)
            elif self._streams:
                await self._running  # raises what made it stop
            else:
                yield self._make_final(await self._running)
        finally:
            if not self._running.done():
                self._running.cancel()
                await asyncio.wait([self._running])

    async def _answer(self) -> list[Result]:
        try:
            return await self._answer_by(self.request.strategy, self.reward)
        except RewardError:
            if not self.degrades or self._committed or self._results or excludes(self.reward):
                raise
        plain = Plain(max_tokens=greatest_length(self.request.strategy))
        results = await self._answer_by(plain, None)
        for result in results:
            result.trace.warn("the reward failed: this is a plain draw, without the strategy")
        return results

    async def _answer_by(self, strategy: Strategy, reward: Reward | None) -> list[Result]:
        return await answer(
            self.request.prompt,
            strategy,
            policy=self.request.policy,
            reward=reward,
            key=self.key,
            n=self.request.n,
            budget=self.request.budget,
            on_reward_error=self.request.on_reward_error,
            listener=self,
            parts=self.parts,
        )

    def watch_policy(self, sample: int, policy: Policy) -> Policy:
        """The policy; if a draw is the answer, its tokens are sent as they come."""

        def on_tokens(tokens: Tokens) -> None:
            self._events.put_nowait(_Event(sample, tokens))

        # a draw that may turn out not to be allowed must not be seen before it is judged
        may_show = answers_in_one_draw(self.served.asked.strategy) and not excludes(self.reward)
        streams_draw = self._streams and may_show
        self.served.streamed |= streams_draw
        return self.watch(policy, on_tokens if streams_draw else None, self._observed.trace_headers)

    def on_commit(self, sample: int, tokens: Tokens) -> None:
        """Sends the answer so far, if it is streamed."""
        before = self._committed.get(sample, ())
        self._committed[sample] = before + tokens
        self._observed.count_segment(tokens)
        if self._streams:
            self._events.put_nowait(_Event(sample, before + tokens))
            self.served.streamed |= bool(before)

    def on_progress(self, sample: int, progress: Progress, usage: Usage) -> None:
        """Keeps it for the comments of a stream."""
        self.served.progress = progress

    def on_answer(self, sample: int, result: Result) -> None:
        """Sends the end of the answer, if it is streamed."""
        self.served.end_answer(result)
        self._observed.count_answer(result)
        if self._streams:
            self.served.results[self.first_choice + sample] = result
            self._events.put_nowait(_Event(sample, result.candidate.tokens, result))

    async def _next_events(self) -> "dict[int, _Event] | None":
        """The newest event of each answer, of all that have happened meanwhile; None at the end."""
        newest: dict[int, _Event] = {}
        event = await self._events.get()
        while event is not None:
            newest[event.sample] = event
            if self._events.empty():
                return newest
            event = self._events.get_nowait()
        self._events.put_nowait(None)
        return newest or None

    def _make_pieces(
        self, events: "Mapping[int, _Event]", streams: dict[int, DeltaStream]
    ) -> list["CompletionOutput"]:
        pieces = []
        for sample, event in events.items():
            if event.result is not None:
                self._results[sample] = event.result
                (completion,) = self._make_output([event.result]).outputs
                pieces.append(streams.pop(sample).finish(completion))
            elif piece := streams[sample].add(event.tokens):
                pieces.append(piece)
        return pieces

    def _make_output(self, results: Sequence[Result]) -> AlignedOutput:
        strategy = self.served.asked.strategy
        return make_output(self.request_id, self.request.prompt, strategy, results)

    def _make_aborted(self, streams: Mapping[int, DeltaStream]) -> list["CompletionOutput"]:
        from vllm.outputs import CompletionOutput

        if streams:
            return [stream.abort("abort") for stream in streams.values()]
        return [
            CompletionOutput(i, "", [], None, None, finish_reason="abort")
            for i in range(self.request.n)
        ]

    def _make_final(self, results: list[Result]) -> "RequestOutput":
        """The one output of a request that is not streamed; choices and results are best first."""
        ranked = [results[i] for i in rank_results(results)]
        self.served.results.update(enumerate(ranked, self.first_choice))
        final = to_request_output(
            self._make_output(results),
            self.params,
            self.tokenizer,
            request_id=self.request_id,
            prompt=self.text,
        )
        final.num_cached_tokens = min(final.num_cached_tokens, len(self.request.prompt.tokens))
        return final

    def _make_partial(self, pieces: list["CompletionOutput"], *, finished: bool) -> "RequestOutput":
        from vllm.outputs import RequestOutput

        output = RequestOutput(
            request_id=self.request_id,
            prompt=self.text,
            prompt_token_ids=list(self.request.prompt.tokens),
            prompt_logprobs=None,
            outputs=pieces,
            finished=finished,
            num_cached_tokens=0,
        )
        if len(self._results) == self.request.n:
            in_order = [self._results[i] for i in range(self.request.n)]
            output.alignment = self._make_output(in_order).alignment
        return output


@dataclass(frozen=True, slots=True)
class _Event:
    """The answer of this number now begins with these tokens; with a result it is complete."""

    sample: int
    tokens: Tokens
    result: Result | None = None
