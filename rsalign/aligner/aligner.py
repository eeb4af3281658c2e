"""Aligner: the decoding controller's public face, shaped like `vllm.LLM`."""

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsalign.aligner import inputs
from rsalign.aligner.batch import Batch, OnError, OnResult
from rsalign.aligner.call import Call, check_call, requests
from rsalign.aligner.inputs import Conversation, Refused, TextOrTokens
from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.stream import Event, OnCommit, Pieces, reader, stream
from rsalign.core.align import OnProgress
from rsalign.core.budget import Budget
from rsalign.core.errors import ConfigError
from rsalign.core.journal import Journal
from rsalign.core.protocols import Policy, Reward, sampling
from rsalign.core.types import Prompt
from rsalign.engines.loop_thread import LoopThread
from rsalign.strategies.plain import Plain
from rsalign.words.parts import StrategyLike, is_none, policy_from, reward_from, strategy_from
from rsalign.words.read import OnRewardError


class Aligner:
    """Aligned generation over a policy and a reward; the weights of neither change.

    Answers depend on the seed and on the prompt's position in the call, not on what else runs: the
    same call gives the same answers (docs/running.md says what each engine can promise).

    Args:
        policy: ``"embedded"``, a model id or path (vLLM starts it), the address of an
            OpenAI-compatible server or a list of them, ``"module:name"`` of one's own, a running
            `vllm.LLM` or `AsyncLLM` (left running on close), or any `Policy`.
        reward: ``"embedded"``, a model id or path (vLLM's pooling runner starts it), the address of
            a vLLM pooling server, ``"module:name"`` of one's own, any `Reward`, a callable
            (prompt_text, response_text) -> float, or None for a strategy that needs none.
        strategy: how answers are drawn, as an instance, a name such as ``"best_of"``, or an object
            such as ``{"name": "best_of", "n": 8}``; may be replaced in each call.
        seed: root of all randomness.
        budget: hard limits for each prompt; may be replaced in each call.
        engine_args: for the policy's engine, if we start it (`vllm.EngineArgs`).
        reward_args: for the reward's engine, if we start it.
        journal: a path (opened and closed here) or a `Journal`: draws and rewards are on record
            there, and a killed run that is started again pays only for what is missing.
        on_reward_error: ``"fail"`` ends a prompt whose reward fails with `RewardError`, ``"best"``
            with the best answer so far, flagged as expired.

    Raises:
        ConfigError: if anything given cannot work; before an engine starts where that is possible.
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
        policy: Any,
        reward: Any = None,
        strategy: StrategyLike | None = None,
        *,
        seed: int = 0,
        budget: Budget | None = None,
        engine_args: Mapping[str, Any] | None = None,
        reward_args: Mapping[str, Any] | None = None,
        journal: str | Path | Journal | None = None,
        on_reward_error: OnRewardError = "fail",
    ) -> None:
        self._strategy = Plain() if strategy is None else strategy_from(strategy)
        check_call(self._strategy, budget, seed, has_reward=not is_none(reward))
        self._seed, self._budget, self._on_reward_error = seed, budget, on_reward_error
        self._loop: LoopThread | None = None
        self._closers: list[Callable[[], None]] = []

        @functools.cache
        def start_policy() -> Policy:
            started = policy_from(policy, engine_args or {})
            self._closes(started, given=policy)
            return started

        try:
            self._journal = self._opened(journal)
            # the reward first, unless it needs the policy: it is the smaller model, and its faults
            # are found sooner
            self._reward: Reward | None = reward_from(reward, reward_args or {}, start_policy)
            self._closes(self._reward, given=reward)
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
    def budget(self) -> Budget | None:
        """The limits for each prompt, where a call gives none."""
        return self._budget

    def generate(
        self,
        prompts: TextOrTokens | Sequence[TextOrTokens],
        sampling_params: Any = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        use_tqdm: bool = True,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        on_reward_error: OnRewardError | None = None,
        lora_request: Any = None,
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
            on_error: ``"raise"`` ends the batch at the first failure, whose `finished` holds what
                was complete; ``"return"`` goes on, and a failed prompt's result has its `error`.
                Either way a failure is an `RsalignError`, whatever a tokenizer, a chat template or
                code of yours raised; that is its ``__cause__``.
            on_result: called with each result as soon as it is there, in order of completion.
            on_reward_error: instead of the aligner's.
            lora_request: vLLM's `LoRARequest` of the adapter that draws; one for all or one per
                prompt. It takes a policy in an engine that was started with ``enable_lora=True``.
            priority: of the requests to the engine, one for all or one per prompt; lower is served
                first by an engine with ``scheduling_policy="priority"``.

        Returns:
            One result per prompt, in order; each with its answers, best first.

        Raises:
            ConfigError: if a prompt or parameter cannot work; before any work is done. With
                ``on_error="return"`` only what concerns all prompts is raised.
            PolicyError: if the policy failed; an `EngineError` if its engine is gone.
            RewardError: if the reward failed.
            StrategyError: if the strategy failed, or a function that it was given.
        """
        given = Call(strategy, budget, seed, on_error, lora_request, priority, on_reward_error)
        found = inputs.prompts(prompts, self._policy)
        batch = self._batch(found, sampling_params, given, prompts)
        return self._block(batch, use_tqdm, on_result)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: Any = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        use_tqdm: bool = True,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        lora_request: Any = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """Answers conversations; as `generate`, with the policy's chat template applied.

        Args:
            messages: one conversation (a list of ``{"role": ..., "content": ...}``) or a list.
            sampling_params: as in `generate`.
            strategy: as in `generate`.
            budget: as in `generate`.
            seed: as in `generate`.
            use_tqdm: as in `generate`.
            chat_template: instead of the tokenizer's.
            add_generation_prompt: open the assistant's turn.
            on_error: as in `generate`.
            on_result: as in `generate`.
            lora_request: as in `generate`.
            priority: as in `generate`.
        """
        given = Call(strategy, budget, seed, on_error, lora_request, priority)
        found = inputs.conversations(
            messages,
            self._policy,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        return self._block(self._batch(found, sampling_params, given), use_tqdm, on_result)

    async def agenerate(
        self,
        prompts: TextOrTokens | Sequence[TextOrTokens],
        sampling_params: Any = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        lora_request: Any = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """As `generate`, on the caller's event loop; cancelling it aborts open requests."""
        given = Call(strategy, budget, seed, on_error, lora_request, priority)
        found = inputs.prompts(prompts, self._policy)
        batch = self._batch(found, sampling_params, given, prompts)
        return await batch.answer(on_result)

    async def achat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: Any = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        on_error: OnError = "raise",
        on_result: OnResult | None = None,
        lora_request: Any = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[AlignedOutput]:
        """As `chat`, on the caller's event loop; cancelling it aborts open requests."""
        given = Call(strategy, budget, seed, on_error, lora_request, priority)
        found = inputs.conversations(
            messages,
            self._policy,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        return await self._batch(found, sampling_params, given).answer(on_result)

    async def astream(
        self,
        prompt: TextOrTokens,
        sampling_params: Any = None,
        *,
        strategy: StrategyLike | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        lora_request: Any = None,
        priority: int | Sequence[int] | None = None,
    ) -> AsyncIterator[Event]:
        """Answers one prompt; yields its text as soon as it is certain, then the result.

        `Cards` streams each accepted segment; a strategy that decides at the end only yields the
        answer then, and until then, if it makes many steps, what the answer would be now. The
        pieces of text together are the answer's. Leaving early (``aclose``, or a cancelled task)
        aborts what is open.

        Args:
            prompt: as in `generate`; ``{"messages": [...]}`` for a conversation.
            sampling_params: as in `generate`, with ``n=1``.
            strategy: as in `generate`.
            budget: as in `generate`.
            seed: as in `generate`.
            lora_request: as in `generate`.
            priority: as in `generate`.

        Yields:
            `TextEvent` and `ProgressEvent` any number of times, then one `ResultEvent`.

        Raises:
            ConfigError: if ``n`` is not 1, or the text is to be shown in another way than usual
                (``skip_special_tokens``, ``logprobs``, ...); otherwise as `generate`.
        """
        given = Call(strategy, budget, seed, "raise", lora_request, priority)
        found = inputs.prompts(prompt, self._policy)
        batch = self._batch(found, sampling_params, given, prompt)
        (request,) = batch.requests
        if isinstance(request, Refused) or request.n != 1:
            raise ConfigError("astream answers one prompt once: leave n=1, or use agenerate")
        if request.shown is not None:
            raise ConfigError(
                "astream shows text as usual: leave out logprobs, detokenize, "
                "skip_special_tokens and the like, or use agenerate"
            )
        stop = (request.sampling or sampling(self._policy)).stop
        pieces = Pieces(reader(self._policy, request.prompt.tokens), stop)

        async def answer(on_commit: OnCommit, on_progress: OnProgress) -> AlignedOutput:
            watched = replace(batch, on_commit=on_commit, on_progress=on_progress)
            (output,) = await watched.answer()
            return output

        events = stream(lambda *heard: asyncio.ensure_future(answer(*heard)), pieces)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    def close(self) -> None:
        """Stops what this aligner started; what it was given runs on. Idempotent."""
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

    def _opened(self, journal: str | Path | Journal | None) -> Journal | None:
        if journal is None or isinstance(journal, Journal):
            return journal
        opened = Journal(journal)
        self._closers.append(opened.close)
        return opened

    def _closes(self, made: Any, *, given: Any) -> None:
        """What was made here is closed here (an adopted engine's wrapper leaves it running)."""
        if made is not None and made is not given and hasattr(made, "close"):
            self._closers.append(made.close)

    def _batch(
        self,
        found: Sequence[Prompt | Refused],
        sampling_params: Any,
        given: Call,
        prompts: TextOrTokens | Sequence[TextOrTokens] | None = None,
    ) -> Batch:
        strategy = self._strategy if given.strategy is None else strategy_from(given.strategy)
        seed = given.seed if given.seed is not None else self._seed
        check_call(strategy, given.budget, seed, has_reward=self._reward is not None)
        params = inputs.per_prompt(sampling_params, len(found), "sampling_params")
        budget = given.budget if given.budget is not None else self._budget
        salts = [""] * len(found) if prompts is None else inputs.cache_salts(prompts)
        options = given.options(salts)
        return Batch(
            policy=self._policy,
            reward=self._reward,
            requests=requests(self._policy, found, params, strategy, options, budget),
            ids=range(len(found)) if prompts is None else inputs.ids(prompts),
            strategy=strategy,
            seed=seed,
            budget=budget,
            journal=self._journal,
            on_error=given.on_error,
            on_reward_error=given.on_reward_error or self._on_reward_error,
        )

    def _block(
        self, batch: Batch, use_tqdm: bool, on_result: OnResult | None
    ) -> list[AlignedOutput]:
        from tqdm import tqdm

        if self._loop is None:
            self._loop = LoopThread("rsalign-aligner")
        with tqdm(
            total=len(batch.requests),
            desc=type(batch.strategy).__name__,
            unit="prompt",
            disable=not (use_tqdm and sys.stderr.isatty()),
        ) as bar:

            def done(result: AlignedOutput) -> None:
                bar.update()
                if on_result is not None:
                    on_result(result)

            return self._loop.call(batch.answer(done))
