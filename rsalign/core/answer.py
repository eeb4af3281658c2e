"""answer(): the answers to one prompt, in one way for all doors.

The `Aligner`, the `aligned()` block, the server, lm-eval, ``rsalign generate`` and sweeps all draw
answers here. These rules therefore exist once:

    addresses   a prompt draws below ``("prompt", name)`` of its seed; answer i of several draws
                below ``("sample", i)`` of that
    repeats     where the policy has one possible answer, the strategy runs once for all of them
    ranking     `rank_results`
    failures    whatever foreign code raises is an `RsalignError` of one prompt (`answer_errors`)
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

from rsalign.core.align import Result, align
from rsalign.core.budget import Budget, Usage
from rsalign.core.capabilities import varies_by_policy_alone
from rsalign.core.errors import StrategyError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.journal import Journal
from rsalign.core.key import Key, Label
from rsalign.core.protocols import Policy, Reward, Strategy, get_sampling
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Progress
from rsalign.core.types import Prompt, Tokens

OnFailedReward: TypeAlias = Literal["fail", "best"]
"""What a reward that fails does to a prompt: an error, or the best answer so far."""


class AnswerListener:
    """Is told what happens while the answers to one prompt are drawn; the base does nothing.

    `sample` numbers the answers by their addresses, from 0.

    Example:
        >>> import asyncio
        >>> from rsalign import Plain
        >>> from rsalign.testing import ToyPolicy
        >>> class Printer(AnswerListener):
        ...     def on_answer(self, sample, result):
        ...         print(sample, len(result.candidate.tokens))
        >>> prompt = Prompt((), (1,))
        >>> one_token = Plain(max_tokens=1)
        >>> run = answer(
        ...     prompt, one_token, policy=ToyPolicy(), key=Key(0), n=2, listener=Printer()
        ... )
        >>> _ = asyncio.run(run)
        0 1
        1 1
    """

    def watch_policy(self, sample: int, policy: Policy) -> Policy:
        """The policy that draws this answer; a view of `policy` if each draw is to be watched."""
        return policy

    def on_start(self, sample: int, expire: Callable[[], None]) -> None:
        """This answer has begun; `expire` ends it with the best so far."""

    def on_commit(self, sample: int, tokens: Tokens) -> None:
        """The next tokens of this answer are certain."""

    def on_progress(self, sample: int, progress: Progress, usage: Usage) -> None:
        """A strategy that decides at the end tells where it stands and what it has spent."""

    def on_answer(self, sample: int, result: Result) -> None:
        """This answer is complete; what this raises ends the others."""


async def answer(
    prompt: Prompt,
    strategy: Strategy,
    *,
    policy: Policy,
    reward: Reward | None = None,
    key: Key,
    n: int = 1,
    budget: Budget | None = None,
    journal: Journal | None = None,
    on_reward_error: OnFailedReward = "fail",
    listener: AnswerListener | None = None,
    parts: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Draws n independent answers to one prompt, all at once.

    If the strategy's answers differ only because the policy's draws do
    (`Strategy.varies_by_policy_alone`) and the policy has one possible answer, the strategy runs
    once: the other results repeat that one, cost nothing, and a warning says so.

    Args:
        prompt: what is answered.
        strategy: how.
        policy: draws, under the law that is asked for.
        reward: judges; None for a strategy that needs no reward.
        key: the address of the prompt (`prompt_key`).
        n: number of answers, at least 1.
        budget: hard limits of each answer.
        journal: where draws and rewards are on record.
        on_reward_error: ``"best"`` ends an answer whose reward fails with the best so far.
        listener: is told what happens.
        parts: named parts (`Run.part`); those that the strategy does not need are not used.

    Returns:
        One result per answer, in the order of their addresses.

    Raises:
        RsalignError: the first failure, as `align`; it cancels the other answers.
    """
    one_for_all = n > 1 and varies_by_policy_alone(strategy) and get_sampling(policy).is_point_mass

    async def draw(sample: int) -> list[Result]:
        result = await align(
            prompt,
            strategy,
            policy=listener.watch_policy(sample, policy) if listener else policy,
            reward=reward,
            seed=key if n == 1 else key.child("sample", sample),
            on_start=partial(listener.on_start, sample) if listener else None,
            on_commit=partial(listener.on_commit, sample) if listener else None,
            on_progress=partial(listener.on_progress, sample) if listener else None,
            budget=budget,
            journal=journal,
            parts=parts,
            on_reward_error="best" if on_reward_error == "best" else "raise",
        )
        results = _repeat(result, n) if one_for_all else [result]
        if listener:
            for number, each in enumerate(results, sample):
                listener.on_answer(number, each)
        return results

    with answer_errors(prompt):
        drawn = await concurrently(draw(sample) for sample in range(1 if one_for_all else n))
    return [result for results in drawn for result in results]


def prompt_key(seed: int, name: Label) -> Key:
    """The address of a prompt: answers depend on its name (or position) and on the seed."""
    return Key(seed).child("prompt", name)


def rank_results(results: Sequence[Result]) -> list[int]:
    """The places of results, best first: ``results[rank_results(results)[0]]`` is the best.

    Judged answers come first, the highest reward at the front; then those that were not judged,
    complete answers before partial ones; then abstentions. Ties keep the order of their addresses.
    """

    def sort_key(place: int) -> tuple[bool, bool, bool, float]:
        result = results[place]
        complete = result.candidate.response.complete
        return result.abstained, result.reward is None, not complete, -(result.reward or 0.0)

    return sorted(range(len(results)), key=sort_key)


def answer_errors(prompt: Prompt) -> contextlib.AbstractContextManager[None]:
    """Turns what foreign code raises while a prompt is answered into a `StrategyError` of it."""

    def failed(failure: BaseException) -> StrategyError:
        return StrategyError(f"answering raised {describe_error(failure)}", prompt=prompt)

    return errors_as(failed)


def _repeat(result: Result, n: int) -> list[Result]:
    """The result n times; only the first has a cost."""
    result.trace.warn(
        f"the policy has one possible answer to this prompt: it was found once and is returned "
        f"{n} times, as n={n} asks"
    )
    return [result, *(replace(result, usage=Usage()) for _ in range(n - 1))]
