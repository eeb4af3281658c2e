"""Many requests at once: each by itself, none waiting for another."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rsalign.align import OnProgress, align
from rsalign.aligner.inputs import Refused, Request
from rsalign.aligner.outputs import AlignedOutput, failure, output
from rsalign.budget import Budget
from rsalign.checks import shown
from rsalign.errors import ConfigError, RsalignError, StrategyError
from rsalign.foreign import errors_as, told
from rsalign.journal import Journal
from rsalign.key import Key, Label
from rsalign.protocols import Policy, Reward, Strategy
from rsalign.tasks import concurrently
from rsalign.types import Tokens

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
    on_commit: Callable[[Tokens], None] | None = None
    on_progress: OnProgress | None = None

    def __post_init__(self) -> None:
        check_on_error(self.on_error)
        for request in self.requests:
            if isinstance(request, Refused) and self.on_error == "raise":
                raise request.error

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
                else journal.holding(self.policy, self.reward)
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
            return StrategyError(f"answering raised {told(raised)}", prompt=request.prompt)

        try:
            with errors_as(failed):
                policy = law(self.policy, request)
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
                    )
                    for i in range(request.n)
                )
                return output(str(name), request.prompt, request.strategy, results)
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
        raise ConfigError(f"on_error={shown(given)}: choose 'raise' or 'return'")


def law(policy: Policy, request: Request) -> Policy:
    """The policy under the law that the request asks for.

    Raises:
        ConfigError: if the policy's law is fixed.
    """
    if request.sampling is None:
        return policy
    tuned = getattr(policy, "with_sampling", None)
    if tuned is None:
        raise ConfigError(
            f"{type(policy).__name__} has no with_sampling(): its law is fixed; leave "
            "sampling_params=None and set lengths in the strategy"
        )
    reshaped: Policy = tuned(request.sampling)
    return reshaped
