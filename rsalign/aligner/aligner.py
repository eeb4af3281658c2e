"""Aligner: aligned generation with the interface of `vllm.LLM`."""

import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsalign.aligner.answer import OnResult, answer_all
from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.parameters import SamplingParamsLike
from rsalign.aligner.prompts import (
    ChatRendering,
    Conversation,
    TextOrTokens,
    list_conversations,
    list_prompts,
)
from rsalign.aligner.requests import (
    CallSettings,
    LoRARequests,
    OnError,
    Request,
    SamplingParamsForAll,
    check_settings,
    read_requests,
)
from rsalign.aligner.stream import Event, stream_events
from rsalign.core.answer import AnswerListener
from rsalign.core.budget import Budget
from rsalign.core.checks import check_value
from rsalign.core.errors import ConfigError
from rsalign.core.journal import Journal
from rsalign.core.protocols import Policy, Reward
from rsalign.core.segment_ends import check_boundaries
from rsalign.engines.loop_thread import LoopThread
from rsalign.strategies.plain import Plain
from rsalign.words.parts import (
    EngineArguments,
    PolicyLike,
    RewardLike,
    StrategyLike,
    is_none,
    policy_from,
    reward_from,
    strategy_from,
)
from rsalign.words.read import OnRewardError


class Aligner:
    """Aligned generation over a policy and a reward; the weights of neither change.

    Answers depend on the seed and on the prompt's position in the call alone (docs/running.md).

    Args:
        policy: ``"embedded"``, a model id or path (vLLM starts it), the address of an
            OpenAI-compatible server or a list of them, ``"module:name"`` of one's own, a running
            `vllm.LLM` or `AsyncLLM` (left running on close), or any `Policy`.
        reward: ``"embedded"``, a model id or path (vLLM's pooling runner starts it), the address of
            a vLLM pooling server, ``"module:name"`` of one's own, any `Reward`, a callable
            (prompt_text, response_text) -> float, or None if the strategy needs none.
        strategy: an instance, a name, or an object such as ``{"name": "best_of", "n": 8}``.
        seed: root of all randomness.
        budget: hard limits for each prompt; may be replaced in each call.
        engine_args, reward_args: for an engine that is started (`vllm.EngineArgs`).
        lora: adapter of the policy: path or id, or its name at a server (`policy_from`).
        journal: a path or a `Journal`: a run that was killed pays only for what is missing.
        on_reward_error: a prompt whose reward fails ends with `RewardError` (``"fail"``), or with
            the best answer so far, flagged as expired (``"best"``).

    Raises:
        ConfigError: if anything given cannot work, before an engine starts where possible.
        InstallError: if vLLM is needed and missing.

    Example:
        >>> from rsalign import Aligner, BestOf, Plain
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> with Aligner(ToyPolicy(), ToyReward(), BestOf(n=4, inner=Plain(max_tokens=8))) as toy:
        ...     (answer,) = toy.generate("1 2 1")
        >>> answer.alignment.usage.reward_calls
        4
    """

    def __init__(
        self,
        policy: PolicyLike,
        reward: "RewardLike | None" = None,
        strategy: StrategyLike | None = None,
        *,
        seed: int = 0,
        budget: Budget | None = None,
        engine_args: EngineArguments | None = None,
        lora: str | None = None,
        reward_args: EngineArguments | None = None,
        journal: str | Path | Journal | None = None,
        on_reward_error: OnRewardError = "fail",
    ) -> None:
        made = Plain() if strategy is None else strategy_from(strategy)
        self._settings = CallSettings(made, budget, seed, on_reward_error=on_reward_error)
        check_settings(self._settings, has_reward=not is_none(reward))
        for name, given in (("engine_args", engine_args), ("reward_args", reward_args)):
            check_value("Aligner", name, given, Mapping[str, Any] | None)
        self._loop: LoopThread | None = None
        self._closers: list[Callable[[], None]] = []

        @functools.cache
        def start_policy() -> Policy:
            started = policy_from(policy, engine_args or {}, lora=lora)
            self._close_later(started, given=policy)
            check_boundaries(made, started)
            return started

        try:
            self._journal = self._open_journal(journal)
            # the reward first, unless it needs the policy: its faults are found sooner
            self._reward: Reward | None = reward_from(reward, reward_args or {}, start_policy)
            self._close_later(self._reward, given=reward)
            if self._journal is not None and self._reward is not None:
                self._journal.fingerprint_of(self._reward)  # refused before an engine starts
            self._policy: Policy = start_policy()
        except BaseException:
            self.close()
            raise

    @property
    def policy(self) -> Policy:
        """The policy that requests go to."""
        return self._policy

    @property
    def reward(self) -> Reward | None:
        """The reward that answers are judged by."""
        return self._reward

    @property
    def settings(self) -> CallSettings:
        """Strategy, budget and so on of a call that gives none of its own."""
        return self._settings

    def generate(
        self,
        prompts: TextOrTokens | Sequence[TextOrTokens],
        sampling_params: SamplingParamsForAll = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        use_tqdm: bool = True,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """Answers prompts; blocks until all are done.

        Args:
            prompts: a text, ``{"prompt_token_ids": [...]}``, or a list of them. Draws depend on a
                prompt's position in the list, or on its ``"id"`` if it has one.
            sampling_params: vLLM's `SamplingParams`, one for all or one per prompt. `max_tokens`
                bounds the whole response; `n` asks for independent answers; None keeps the model's
                own law and the strategy's length.
            strategy: instead of the aligner's.
            budget: instead of the aligner's.
            seed: instead of the aligner's.
            use_tqdm: show a progress bar, if the output is a terminal.
            on_error: ``"raise"`` ends the call at the first failure, whose `finished` holds what
                was complete; ``"return"`` goes on, and a failed prompt's result has its `error`.
                Either way a failure is an `RsalignError`; what a tokenizer, a chat template or your
                own code raised is its ``__cause__``.
            on_result: called with each result as soon as it is there, in order of completion.
            on_reward_error: instead of the aligner's.
            lora_request: vLLM's `LoRARequest` of the adapter that draws; one for all or one per
                prompt. The policy's engine must have been started with ``enable_lora=True``.
            priority: of the requests to the engine, one for all or one per prompt; an engine with
                ``scheduling_policy="priority"`` serves lower values first.

        Returns:
            One result per prompt, in order; each with its answers, best first.

        Raises:
            ConfigError: if a prompt or parameter cannot work; before any work is done. With
                ``on_error="return"`` only what concerns all prompts is raised.
            PolicyError: if the policy failed; an `EngineError` if its engine is gone.
            RewardError: if the reward failed.
            StrategyError: if the strategy failed, or a function that it was given.
        """
        call = self._call(strategy, budget, seed, on_error, on_reward_error, lora_request, priority)
        requests = read_requests(list_prompts(prompts), sampling_params, call, self._policy)
        return self.answer(requests, call, use_tqdm=use_tqdm, on_result=on_result)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParamsForAll = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        use_tqdm: bool = True,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """Answers conversations, rendered by the policy's chat template; else as `generate`.

        `messages` is one conversation (a list of ``{"role": ..., "content": ...}``) or a list of
        conversations. `chat_template` replaces the tokenizer's; `add_generation_prompt` opens the
        assistant's turn. All other arguments are those of `generate`.
        """
        call = self._call(strategy, budget, seed, on_error, on_reward_error, lora_request, priority)
        given = list_conversations(messages)
        rendering = ChatRendering(chat_template, add_generation_prompt)
        requests = read_requests(given, sampling_params, call, self._policy, rendering)
        return self.answer(requests, call, use_tqdm=use_tqdm, on_result=on_result)

    async def agenerate(
        self,
        prompts: TextOrTokens | Sequence[TextOrTokens],
        sampling_params: SamplingParamsForAll = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """As `generate`, on the caller's event loop; cancelling it aborts open requests."""
        call = self._call(strategy, budget, seed, on_error, on_reward_error, lora_request, priority)
        requests = read_requests(list_prompts(prompts), sampling_params, call, self._policy)
        return await self._answer(requests, call.on_error, on_result)

    async def achat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParamsForAll = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """As `chat`, on the caller's event loop; cancelling it aborts open requests."""
        call = self._call(strategy, budget, seed, on_error, on_reward_error, lora_request, priority)
        given = list_conversations(messages)
        rendering = ChatRendering(chat_template, add_generation_prompt)
        requests = read_requests(given, sampling_params, call, self._policy, rendering)
        return await self._answer(requests, call.on_error, on_result)

    async def astream(
        self,
        prompt: TextOrTokens,
        sampling_params: "SamplingParamsLike | None" = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | None = None,
    ) -> AsyncIterator[Event]:
        """Answers one prompt; yields its text as soon as it is certain, then the result.

        `Cards` streams each accepted segment. A strategy that decides at the end yields its answer
        then, and before that, if it takes many steps, what the answer would be now. The pieces of
        text together are the answer's text. Leaving early (``aclose``) aborts open requests. The
        arguments are those of `generate`; a conversation is ``{"messages": [...]}``.

        Yields:
            `TextEvent` and `ProgressEvent` any number of times, then one `ResultEvent`.

        Raises:
            ConfigError: if ``n`` is not 1, or the text is to be presented in another way than usual
                (``skip_special_tokens``, ``logprobs``, ...); otherwise as `generate`.
        """
        call = self._call(strategy, budget, seed, "raise", on_reward_error, lora_request, priority)
        requests = read_requests(list_prompts(prompt), sampling_params, call, self._policy)
        request = requests[0]
        if len(requests) != 1 or not isinstance(request, Request) or request.n != 1:
            raise ConfigError("astream answers one prompt once: leave n=1, or use agenerate")
        if request.presentation is not None:
            raise ConfigError(
                "astream shows text as usual: leave out logprobs, detokenize, "
                "skip_special_tokens and the like, or use agenerate"
            )

        async def answer(listener: AnswerListener) -> AlignedOutput:
            (output,) = await self._answer([request], "raise", listener=listener)
            return output

        async with contextlib.aclosing(stream_events(request, answer)) as events:
            async for event in events:
                yield event

    def answer(
        self,
        requests: Sequence[Request | AlignedOutput],
        settings: CallSettings | None = None,
        *,
        use_tqdm: bool = True,
        on_result: OnResult | None = None,
    ) -> list[AlignedOutput]:
        """Answers requests that have been read already; `generate` and `chat` read them first.

        Args:
            requests: as `rsalign.aligner.requests.read_requests` makes them.
            settings: of the call: its `on_error`, and the strategy that the progress bar names.
            use_tqdm: as in `generate`.
            on_result: as in `generate`.

        Raises:
            RsalignError: as `generate`.
        """
        from tqdm import tqdm

        settings = (settings or CallSettings()).over(self._settings)
        self._loop = self._loop or LoopThread("rsalign-aligner")
        title, hidden = type(settings.strategy).__name__, not (use_tqdm and sys.stderr.isatty())
        with tqdm(total=len(requests), desc=title, unit="prompt", disable=hidden) as bar:

            def advance(output: AlignedOutput) -> None:
                bar.update()
                if on_result is not None:
                    on_result(output)

            return self._loop.call(self._answer(requests, settings.on_error, advance))

    def close(self) -> None:
        """Stops what this aligner started; what it was given keeps running. Idempotent."""
        while self._closers:
            self._closers.pop()()
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def __enter__(self) -> "Aligner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Aligner":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _open_journal(self, journal: str | Path | Journal | None) -> Journal | None:
        if journal is None or isinstance(journal, Journal):
            return journal
        opened = Journal(journal)
        self._closers.append(opened.close)
        return opened

    def _close_later(self, made: Any, *, given: Any) -> None:
        """Closes a part on `close` if it was made here."""
        if made is not None and made is not given and hasattr(made, "close"):
            self._closers.append(made.close)

    def _call(
        self,
        strategy: StrategyLike | None,
        budget: Budget | None,
        seed: int | None,
        on_error: OnError,
        on_reward_error: OnRewardError | None,
        lora_request: LoRARequests,
        priority: int | Sequence[int] | None,
    ) -> CallSettings:
        """The settings of a call, with the aligner's own where it gives none."""
        made = None if strategy is None else strategy_from(strategy)
        call = CallSettings(made, budget, seed, on_error, on_reward_error, lora_request, priority)
        call = call.over(self._settings)
        check_settings(call, has_reward=self._reward is not None)
        return call

    async def _answer(
        self,
        requests: Sequence[Request | AlignedOutput],
        on_error: OnError,
        on_result: OnResult | None = None,
        listener: AnswerListener | None = None,
    ) -> list[AlignedOutput]:
        own = self._policy, self._reward, self._journal
        return await answer_all(requests, *own, on_error, on_result=on_result, listener=listener)
