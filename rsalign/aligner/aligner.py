"""Aligner: aligned generation with the interface of `vllm.LLM`."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsalign.aligner.answer import OnResult, answer_all
from rsalign.aligner.calls import CallReader
from rsalign.aligner.open_parts import OpenParts
from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.parameters import SamplingParamsLike
from rsalign.aligner.progress_bar import progress_bar
from rsalign.aligner.prompts import Conversation, TextOrTokens
from rsalign.aligner.requests import (
    CallSettings,
    LoRARequests,
    OnError,
    Request,
    SamplingParamsForAll,
    check_settings,
)
from rsalign.aligner.stream import Event, require_streamable, stream_events
from rsalign.core.answer import AnswerListener
from rsalign.core.budget import Budget
from rsalign.core.checks import check_value
from rsalign.core.closing import Closing
from rsalign.core.journal import Journal
from rsalign.core.protocols import Policy, Reward
from rsalign.core.text.chat_options import ChatOptions, JsonObjects
from rsalign.engines.loop_thread import LoopThread
from rsalign.strategies.plain import Plain
from rsalign.words.allocation import AllocationLike
from rsalign.words.named_parts import PartLike
from rsalign.words.parts import (
    EngineArguments,
    PolicyLike,
    ReasoningLike,
    RewardLike,
    StrategyLike,
    is_none,
    reasoning_from,
    strategy_from,
)
from rsalign.words.read import OnRewardError


class Aligner(Closing):
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
        chat_options: how conversations are rendered, unless a call or a prompt says otherwise: a
            `ChatOptions`, or a table of its names.
        reasoning_parser: of a reasoning model, vLLM's name of the parser that finds its thought,
            such as ``"qwen3"``: rewards, votes and `AlignedCompletion.text` then have the answer
            alone; or a `Reasoning`, which can keep the thought; ``"none"`` divides nothing. None:
            the parser that the engine was started with, or that the model plainly needs, if any.
        parts: further models and judges that strategies need, by name, each an object or what names
            one: ``{"draft": "org/small"}`` (docs/words.md). Metered in `Usage.parts`.

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
        chat_options: ChatOptions | Mapping[str, Any] | None = None,
        reasoning_parser: "ReasoningLike | None" = None,
        parts: Mapping[str, PartLike] | None = None,
    ) -> None:
        options, reasoning = ChatOptions.read(chat_options), reasoning_from(reasoning_parser)
        made = Plain() if strategy is None else strategy_from(strategy)
        self._settings = CallSettings(made, budget, seed, on_reward_error=on_reward_error)
        check_settings(self._settings, has_reward=not is_none(reward))
        for name, given in (("engine_args", engine_args), ("reward_args", reward_args)):
            check_value("Aligner", name, given, Mapping[str, Any] | None)
        self._loop: LoopThread | None = None
        self._parts = OpenParts(
            policy,
            reward,
            journal,
            engine_args=engine_args or {},
            reward_args=reward_args or {},
            reasoning=reasoning,
            strategy=made,
            lora=lora,
            parts=check_value("Aligner", "parts", parts, Mapping[str, Any] | None),
        )
        self._calls = CallReader(self._settings, self._parts, options)

    @property
    def policy(self) -> Policy:
        """The policy that requests go to."""
        return self._parts.policy

    @property
    def reward(self) -> Reward | None:
        """The reward that answers are judged by."""
        return self._parts.reward

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
        allocation: AllocationLike | None = None,
    ) -> list[AlignedOutput]:
        """Answers prompts; blocks until all are done.

        Args:
            prompts: a text, ``{"prompt_token_ids": [...]}``, or a list of them. Draws depend on a
                prompt's position in the list, or on its ``"id"`` if it has one.
            sampling_params: vLLM's `SamplingParams`, one for all or one per prompt. `max_tokens`
                bounds the whole response; `n` asks for independent answers. None keeps the model's
                own distribution (temperature 1, no truncation) and the strategy's length: unlike
                `vllm.LLM.chat`, which takes what the model's authors recommend. ``"model"`` takes
                that, too (`VllmPolicy.model_sampling`).
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
            allocation: shares draws of a `BestOf` among the prompts (`rsalign.allocation`).

        Returns:
            One result per prompt, in order; each with its answers, best first.

        Raises:
            ConfigError: if a prompt or parameter cannot work; before any work is done. With
                ``on_error="return"`` only what concerns all prompts is raised.
            PolicyError: if the policy failed; an `EngineError` if its engine is gone.
            RewardError: if the reward failed.
            StrategyError: if the strategy failed, or a function that it was given.
        """
        call = self._calls.settings_of(
            strategy, budget, seed, on_error, on_reward_error, lora_request, priority, allocation
        )
        requests = self._calls.read(prompts, sampling_params, call)
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
        tools: JsonObjects | None = None,
        documents: JsonObjects | None = None,
        reasoning_effort: str | None = None,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | Sequence[int] | None = None,
        allocation: AllocationLike | None = None,
    ) -> list[AlignedOutput]:
        """Answers conversations, rendered by the policy's chat template; else as `generate`.

        `messages` is one conversation (a list of ``{"role": ..., "content": ...}``) or a list of
        conversations. `chat_template` replaces the tokenizer's; `add_generation_prompt` opens the
        assistant's turn; `chat_template_kwargs` are variables of the template, such as
        ``{"enable_thinking": False}``; `tools`, `documents` and `reasoning_effort` are those of
        vLLM's chat endpoint (`ChatOptions`, also for the aligner's own). A reward renders the
        messages with its own template. All other arguments are those of `generate`.
        """
        call = self._calls.settings_of(
            strategy, budget, seed, on_error, on_reward_error, lora_request, priority, allocation
        )
        rendering = self._calls.rendering(
            chat_template,
            add_generation_prompt,
            chat_template_kwargs,
            tools,
            documents,
            reasoning_effort,
        )
        requests = self._calls.read(messages, sampling_params, call, rendering)
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
        allocation: AllocationLike | None = None,
    ) -> list[AlignedOutput]:
        """As `generate`, on the caller's event loop; cancelling it aborts open requests."""
        call = self._calls.settings_of(
            strategy, budget, seed, on_error, on_reward_error, lora_request, priority, allocation
        )
        requests = self._calls.read(prompts, sampling_params, call)
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
        tools: JsonObjects | None = None,
        documents: JsonObjects | None = None,
        reasoning_effort: str | None = None,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: LoRARequests = None,
        priority: int | Sequence[int] | None = None,
        allocation: AllocationLike | None = None,
    ) -> list[AlignedOutput]:
        """As `chat`, on the caller's event loop; cancelling it aborts open requests."""
        call = self._calls.settings_of(
            strategy, budget, seed, on_error, on_reward_error, lora_request, priority, allocation
        )
        rendering = self._calls.rendering(
            chat_template,
            add_generation_prompt,
            chat_template_kwargs,
            tools,
            documents,
            reasoning_effort,
        )
        requests = self._calls.read(messages, sampling_params, call, rendering)
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
        arguments are those of `generate`; a conversation is ``{"messages": [...]}``, perhaps with
        ``"chat_template_kwargs"``, ``"tools"`` and so on. Nothing of a reasoning model's thought is
        streamed: the text begins with the answer.

        Yields:
            `TextEvent` and `ProgressEvent` any number of times, then one `ResultEvent`.

        Raises:
            ConfigError: if ``n`` is not 1, or the text is to be presented in another way than usual
                (``skip_special_tokens``, ``logprobs``, ...); otherwise as `generate`.
        """
        call = self._calls.settings_of(
            strategy, budget, seed, "raise", on_reward_error, lora_request, priority
        )
        request = require_streamable(self._calls.read(prompt, sampling_params, call))

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
        settings = (settings or CallSettings()).over(self._settings)
        self._loop = self._loop or LoopThread("rsalign-aligner")
        title = type(settings.strategy).__name__
        with progress_bar(title, len(requests), use_tqdm=use_tqdm) as update:

            def advance(output: AlignedOutput) -> None:
                update()
                if on_result is not None:
                    on_result(output)

            return self._loop.call(self._answer(requests, settings.on_error, advance))

    def close(self) -> None:
        """Stops what this aligner started; what it was given keeps running. Idempotent."""
        self._parts.close()
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    async def _answer(
        self,
        requests: Sequence[Request | AlignedOutput],
        on_error: OnError,
        on_result: OnResult | None = None,
        listener: AnswerListener | None = None,
    ) -> list[AlignedOutput]:
        own = self._parts
        given = own.policy, own.reward, own.journal, on_error, own.parts
        return await answer_all(requests, *given, on_result=on_result, listener=listener)
