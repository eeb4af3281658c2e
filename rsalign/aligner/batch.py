"""Many requests at once: each by itself, none waiting for another."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from rsalign.aligner.inputs import Refused, Request
from rsalign.aligner.outputs import AlignedOutput, failure, output
from rsalign.aligner.request_outputs import presented
from rsalign.core.align import OnProgress, Result, align, check_law
from rsalign.core.budget import Budget, Usage
from rsalign.core.capabilities import tells_log_probs, varies_by_policy_alone
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, RsalignError, StrategyError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.journal import Journal
from rsalign.core.key import Key, Label
from rsalign.core.protocols import (
    Policy,
    Reward,
    Strategy,
    get_sampling,
    with_sampling,
)
from rsalign.core.tasks import concurrently
from rsalign.core.types import Tokens
from rsalign.words.read import OnRewardError

OnError: TypeAlias = Literal["raise", "return"]
OnResult: TypeAlias = Callable[[AlignedOutput], object]

_MAX_OPEN_PROMPTS = 512
"""More would only wait in the engine's queue, and hold memory there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests, and what they share.

    Attributes:
        requests: in order; one that was refused is reported in its place.
        ids: what each is called; part of the address of its draws, ``(requests,)``.
        strategy: of those that were refused.
        seed: root of all randomness, but for requests that have their own. Either way a prompt
            draws below ``("prompt", id)``.
        on_reward_error: ``"fail"``, or ``"best"`` to end a run whose reward fails with the best
            answer so far.
        on_error: whether a failed prompt ends the batch, or is returned in its place.
        on_commit: called with each piece of an answer that is certain (streaming one prompt).
        on_progress: called with where a long run stands (likewise).
    """

    policy: Policy
    reward: Reward | None
    requests: Sequence[Request | Refused]
    ids: Sequence[Label]
    strategy: Strategy
    seed: int
    budget: Budget | None
    journal: Journal | None
    on_error: OnError
    on_reward_error: OnRewardError = "fail"
    on_commit: Callable[[Tokens], None] | None = None
    on_progress: OnProgress | None = None

    def __post_init__(self) -> None:
        check_on_error(self.on_error)
        check_on_reward_error(self.on_reward_error)
        for request in self.requests:
            if isinstance(request, Refused):
                if self.on_error == "raise":
                    raise request.error
            elif self.journal is not None and request.options.lists_log_probs:
                raise ConfigError(
                    "logprobs and logprob_token_ids list more than the drawn tokens, which a "
                    "journal does not record: leave them out (logprobs=0 is known), or journal"
                )

    async def answer(self, on_result: OnResult | None = None) -> list[AlignedOutput]:
        """Answers all, in order.

        Args:
            on_result: called with each result as soon as it is there.

        Raises:
            RsalignError: the first failure, if `on_error` is ``"raise"``; what was complete by then
                is in its `finished`.
        """
        finished: list[AlignedOutput] = []

        async def one(name: Label, request: Request | Refused) -> AlignedOutput:
            result = await self._answer(name, request)
            finished.append(result)
            if on_result is not None:
                on_result(result)
            return result

        def waiting() -> Iterator[Any]:
            for name, request in zip(self.ids, self.requests, strict=True):
                yield one(name, request)

        journal = self.journal
        try:
            async with (
                contextlib.nullcontext()
                if journal is None
                else journal.hold_fingerprints(self.policy, self.reward)
            ):
                limit = min(len(self.requests), _MAX_OPEN_PROMPTS)
                return await concurrently(waiting(), limit=limit)
        except RsalignError as error:
            error.finished = tuple(finished)
            raise

    async def _answer(self, name: Label, request: Request | Refused) -> AlignedOutput:
        if isinstance(request, Refused):
            return failure(str(name), request.text, self.strategy, self.seed, request.error)
        seed = self.seed if request.seed is None else request.seed
        key = Key(seed).child("prompt", name)

        def failed(raised: BaseException) -> StrategyError:
            return StrategyError(
                f"answering raised {describe_error(raised)}", prompt=request.prompt
            )

        try:
            with errors_as(failed):
                policy = law(self.policy, request, self.budget)
                num_runs = num_different(request, policy)
                results = await concurrently(
                    align(
                        request.prompt,
                        request.strategy,
                        policy=policy,
                        reward=self.reward,
                        seed=key if request.n == 1 else key.child("sample", i),
                        on_commit=self.on_commit,
                        on_progress=self.on_progress,
                        budget=self.budget,
                        journal=self.journal,
                        on_reward_error="best" if self.on_reward_error == "best" else "raise",
                    )
                    for i in range(num_runs)
                )
                results += repeated(results[0], request.n - num_runs)
                answered = output(str(name), request.prompt, request.strategy, results)
                if request.shown is None:
                    return answered
                return presented(answered, request.shown, tokenizer(policy))
        except RsalignError as error:
            if self.on_error == "raise":
                raise
            return failure(str(name), request.prompt.text, request.strategy, key.root, error)


def check_on_error(given: object) -> None:
    """Refuses what is no `OnError`.

    Raises:
        ConfigError: with the value.
    """
    if given not in ("raise", "return"):
        raise ConfigError(f"on_error={quote(given)}: choose 'raise' or 'return'")


def check_on_reward_error(given: object) -> None:
    """Refuses what is no `OnRewardError`.

    Raises:
        ConfigError: with the value.
    """
    if given not in ("fail", "best"):
        raise ConfigError(f"on_reward_error={quote(given)}: choose 'fail' or 'best'")


def num_different(request: Request, policy: Policy) -> int:
    """How many of a request's answers must be found: one, where the others would only repeat it."""
    repeats = varies_by_policy_alone(request.strategy) and get_sampling(policy).is_point_mass
    return 1 if repeats else request.n


def repeated(result: Result, num_more: int) -> list[Result]:
    """So many more answers like one, which cost nothing; the user is told of them."""
    if num_more:
        result.trace.warn(
            f"the policy has one possible answer to this prompt: it was found once and is returned "
            f"{num_more + 1} times, as n={num_more + 1} asks"
        )
    return [replace(result, usage=Usage()) for _ in range(num_more)]


def law(policy: Policy, request: Request, budget: Budget | None = None) -> Policy:
    """The policy under the law that the request asks for, with what goes with it to the engine.

    Raises:
        ConfigError: if the policy's law is fixed, the strategy cannot draw from it, or the policy
            can do nothing with an option or with how answers are to be shown.
    """
    if request.sampling is not None:
        policy = with_sampling(policy, request.sampling)
    check_law(request.strategy, get_sampling(policy), budget)
    if given := request.options.given():
        if not hasattr(policy, "with_options"):
            name, value = next(iter(given.items()))
            raise ConfigError(
                f"{name}={value!r} cannot be honoured: {type(policy).__name__} has no "
                "with_options(), so that its requests carry nothing besides the prompt and the law"
            )
        policy = policy.with_options(request.options)
    if request.shown is not None:
        tokenizer(policy)
        wants = getattr(request.shown, "logprobs", None) is not None
        if wants and not tells_log_probs(policy):
            raise ConfigError(
                f"logprobs={request.shown.logprobs} cannot be honoured: the policy's engine "
                "reports log-probabilities before temperature and truncation, and the law is "
                f"{get_sampling(policy)}; start it with logprobs_mode='processed_logprobs'"
            )
    return policy


def tokenizer(policy: Policy) -> Any:
    """The tokenizer that shows a policy's tokens.

    Raises:
        ConfigError: if it has none.
    """
    found = getattr(policy, "tokenization", None)
    if found is None:
        raise ConfigError(
            f"{type(policy).__name__} has no tokenizer (an attribute `tokenization`), so that its "
            "answers are shown in one way only: leave out logprobs, detokenize, "
            "skip_special_tokens and the like"
        )
    return found.tokenizer
