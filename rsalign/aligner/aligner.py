"""Aligner: the decoding controller's public face, shaped like `vllm.LLM`."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from rsalign.align import Result, align, needs_reward
from rsalign.aligner.inputs import (
    Conversation,
    Request,
    TextOrTokens,
    conversations,
    per_prompt,
    prompts,
    request,
)
from rsalign.aligner.outputs import AlignedOutput, output
from rsalign.aligner.wiring import policy_from, reward_from
from rsalign.budget import Budget
from rsalign.engines.loop_thread import LoopThread
from rsalign.errors import ConfigError
from rsalign.key import Key
from rsalign.protocols import Policy, Reward, Strategy
from rsalign.strategies.plain import Plain
from rsalign.tasks import concurrently
from rsalign.types import Prompt

OnResult: TypeAlias = Callable[[AlignedOutput], object]

_MAX_OPEN_PROMPTS = 512
"""More would only wait in the engine's queue, and hold memory there."""


class Aligner:
    """Aligned generation over a policy and a reward; the weights of neither change.

    Answers depend on the seed and on the prompt's position in the call, not on what else runs: the
    same call gives the same answers (see README, "Seeds", for what each engine can promise).

    Args:
        policy: a model id or path (vLLM starts it), a running `vllm.LLM` or `AsyncLLM` (left
            running on close), or any `Policy`.
        reward: a model id or path (vLLM's pooling runner starts it), any `Reward`, a callable
            (prompt_text, response_text) -> float, or None for a strategy that needs none.
        strategy: how answers are drawn; may be replaced in each call.
        seed: root of all randomness.
        budget: hard limits for each prompt; may be replaced in each call.
        engine_args: for the policy's engine, if we start it (`vllm.EngineArgs`).
        reward_args: for the reward's engine, if we start it.

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
        strategy: Strategy | None = None,
        *,
        seed: int = 0,
        budget: Budget | None = None,
        engine_args: Mapping[str, Any] | None = None,
        reward_args: Mapping[str, Any] | None = None,
    ) -> None:
        self._strategy = strategy if strategy is not None else Plain()
        self._check(self._strategy, budget, seed, has_reward=reward is not None)
        self._seed, self._budget = seed, budget
        self._loop: LoopThread | None = None
        self._closers: list[Callable[[], None]] = []
        # the reward first: it is the smaller model, and its faults are found sooner
        self._reward: Reward | None = reward_from(reward, reward_args or {})
        self._closes(self._reward, given=reward)
        try:
            self._policy: Policy = policy_from(policy, engine_args or {})
        except BaseException:
            self.close()
            raise
        self._closes(self._policy, given=policy)

    @property
    def policy(self) -> Policy:
        """The policy that requests go to."""
        return self._policy

    @property
    def reward(self) -> Reward | None:
        """The reward that answers are judged by."""
        return self._reward

    def generate(
        self,
        prompts: TextOrTokens | Sequence[TextOrTokens],
        sampling_params: Any = None,
        *,
        strategy: Strategy | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        use_tqdm: bool = True,
        on_result: OnResult | None = None,
    ) -> list[AlignedOutput]:
        """Answers prompts; blocks until all are done.

        Args:
            prompts: a text, ``{"prompt_token_ids": [...]}``, or a list of them.
            sampling_params: vLLM's `SamplingParams`, one for all or one per prompt. `max_tokens`
                bounds the whole response; `n` asks for independent answers; None keeps the model's
                own law and the strategy's length.
            strategy: instead of the aligner's.
            budget: instead of the aligner's.
            seed: instead of the aligner's.
            use_tqdm: show a progress bar, if the output is a terminal.
            on_result: called with each result as soon as it is there, in order of completion.

        Returns:
            One result per prompt, in order; each with its answers, best first.

        Raises:
            ConfigError: if a prompt or parameter cannot work; before any work is done.
            PolicyError: if the engine failed.
            RewardError: if the reward failed.
        """
        requests = self._requests(self._prompts(prompts), sampling_params, strategy, budget, seed)
        return self._block(requests, budget, seed, use_tqdm, on_result)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: Any = None,
        *,
        strategy: Strategy | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        use_tqdm: bool = True,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        on_result: OnResult | None = None,
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
            on_result: as in `generate`.
        """
        found = conversations(
            messages,
            self._policy,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        requests = self._requests(found, sampling_params, strategy, budget, seed)
        return self._block(requests, budget, seed, use_tqdm, on_result)

    async def agenerate(
        self,
        prompts: TextOrTokens | Sequence[TextOrTokens],
        sampling_params: Any = None,
        *,
        strategy: Strategy | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        on_result: OnResult | None = None,
    ) -> list[AlignedOutput]:
        """As `generate`, on the caller's event loop; cancelling it aborts open requests."""
        requests = self._requests(self._prompts(prompts), sampling_params, strategy, budget, seed)
        return await self._answer_all(requests, budget, seed, on_result or _ignore)

    async def achat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: Any = None,
        *,
        strategy: Strategy | None = None,
        budget: Budget | None = None,
        seed: int | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        on_result: OnResult | None = None,
    ) -> list[AlignedOutput]:
        """As `chat`, on the caller's event loop; cancelling it aborts open requests."""
        found = conversations(
            messages,
            self._policy,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        requests = self._requests(found, sampling_params, strategy, budget, seed)
        return await self._answer_all(requests, budget, seed, on_result or _ignore)

    def close(self) -> None:
        """Stops what this aligner started; what it was given runs on. Idempotent."""
        while self._closers:
            self._closers.pop()()
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def __enter__(self) -> "Aligner":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> "Aligner":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _closes(self, made: Any, *, given: Any) -> None:
        """What was made here is closed here (an adopted engine's wrapper leaves it running)."""
        if made is not None and made is not given and hasattr(made, "close"):
            self._closers.append(made.close)

    def _prompts(self, given: TextOrTokens | Sequence[TextOrTokens]) -> list[Prompt]:
        return prompts(given, self._policy)

    def _requests(
        self,
        found: list[Prompt],
        sampling_params: Any,
        strategy: Strategy | None,
        budget: Budget | None,
        seed: int | None,
    ) -> list[Request]:
        chosen = strategy if strategy is not None else self._strategy
        self._check(
            chosen,
            budget,
            self._seed if seed is None else seed,
            has_reward=self._reward is not None,
        )
        params = per_prompt(sampling_params, len(found), "sampling_params")
        requests = [
            request(prompt, given, chosen) for prompt, given in zip(found, params, strict=True)
        ]
        for each in requests:
            self._law(each)  # a law that the policy cannot have is refused before any work
        return requests

    @staticmethod
    def _check(strategy: Any, budget: Any, seed: Any, *, has_reward: bool) -> None:
        if not isinstance(strategy, Strategy) or isinstance(strategy, type):
            raise ConfigError(
                f"strategy={strategy!r}: give an instance, such as BestOf(n=8); what it is must "
                "have `async def sample(prompt, run)`"
            )
        if budget is not None and not isinstance(budget, Budget):
            raise ConfigError(f"budget={budget!r}: give Budget(policy_tokens=..., seconds=...)")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ConfigError(f"seed={seed!r}: give a whole number")
        if needs_reward(strategy) and not has_reward:
            raise ConfigError(
                f"{type(strategy).__name__} needs a reward: give reward=..., a model id or path, "
                "a Reward or a callable (prompt_text, response_text) -> float"
            )

    def _law(self, each: Request) -> Policy:
        """The policy under the law that the request asks for."""
        if each.sampling is None:
            return self._policy
        tuned = getattr(self._policy, "with_sampling", None)
        if tuned is None:
            raise ConfigError(
                f"{type(self._policy).__name__} has no with_sampling(): its law is fixed; leave "
                "sampling_params=None and set lengths in the strategy"
            )
        policy: Policy = tuned(each.sampling)
        return policy

    def _block(
        self,
        requests: list[Request],
        budget: Budget | None,
        seed: int | None,
        use_tqdm: bool,
        on_result: OnResult | None,
    ) -> list[AlignedOutput]:
        from tqdm import tqdm

        if self._loop is None:
            self._loop = LoopThread("rsalign-aligner")
        with tqdm(
            total=len(requests),
            desc=type(requests[0].strategy).__name__,
            unit="prompt",
            disable=not (use_tqdm and sys.stderr.isatty()),
        ) as bar:

            def done(result: AlignedOutput) -> None:
                bar.update()
                if on_result:
                    on_result(result)

            return self._loop.call(self._answer_all(requests, budget, seed, done))

    async def _answer_all(
        self,
        requests: list[Request],
        budget: Budget | None,
        seed: int | None,
        on_result: OnResult,
    ) -> list[AlignedOutput]:
        root = self._seed if seed is None else seed

        async def one(position: int, each: Request) -> AlignedOutput:
            key = Key(root).child("prompt", position) if each.seed is None else Key(each.seed)
            done = await self._answer(str(position), each, key, budget or self._budget)
            on_result(done)
            return done

        def waiting() -> Iterator[Any]:
            for position, each in enumerate(requests):
                yield one(position, each)

        return await concurrently(waiting(), limit=min(len(requests), _MAX_OPEN_PROMPTS))

    async def _answer(
        self, request_id: str, each: Request, key: Key, budget: Budget | None
    ) -> AlignedOutput:
        policy = self._law(each)
        results: list[Result] = await concurrently(
            align(
                each.prompt,
                each.strategy,
                policy=policy,
                reward=self._reward,
                seed=key if each.n == 1 else key.child("sample", i),
                budget=budget,
            )
            for i in range(each.n)
        )
        return output(request_id, each.prompt, each.strategy, results)


def _ignore(result: AlignedOutput) -> None:
    pass
