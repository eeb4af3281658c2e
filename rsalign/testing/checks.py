"""Conformance checks: the laws of `rsalign.core.protocols` as assertions, for any implementation.

Each check is a coroutine that raises `AssertionError` with a description of the violation. The toy
policy and the vLLM policy pass the same checks.
"""

import asyncio
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rsalign.core.capabilities import overdraws
from rsalign.core.constraint import Constraint
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key, Label
from rsalign.core.protocols import Likelihood, Policy, Reward, Strategy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Trace, Verdict
from rsalign.core.types import Prompt, Response, Segment, Stop, Tokens
from rsalign.segments.segmenters import FixedSize
from rsalign.testing.enumerate import NO_PARTS


async def check_policy(
    policy: Policy,
    prefixes: Sequence[Tokens],
    *,
    eos: int,
    max_new_tokens: int = 8,
    reproducible: bool = True,
    tolerance: float = 1e-4,
) -> None:
    """Checks the laws of `Policy`, and those of `Likelihood` if the policy has that ability.

    Args:
        policy: the policy to check.
        prefixes: prompts to continue; some should be able to reach EOS.
        eos: the end-of-sequence token's id.
        max_new_tokens: greatest length of the draws.
        reproducible: whether equal keys must draw equal segments, whatever else runs.
        tolerance: greatest difference of log-probabilities, nats.

    Raises:
        AssertionError: if a law is violated.

    Example:
        >>> from rsalign.testing import EOS, ToyPolicy
        >>> asyncio.run(check_policy(ToyPolicy(), [(1,), (1, 2)], eos=EOS))
    """
    key = Key(0, ("check",))
    alone = [
        await policy.extend(prefix, max_new_tokens=max_new_tokens, key=key.child(i))
        for i, prefix in enumerate(prefixes)
    ]
    for segment in alone:
        _check_segment(segment, eos=eos, limit=max_new_tokens, boundary=None)
    together = await concurrently(
        policy.extend(prefix, max_new_tokens=max_new_tokens, key=key.child(i))
        for i, prefix in enumerate(prefixes)
    )
    if reproducible:
        assert together == alone, "a draw depends on what else runs"
    for i, prefix in enumerate(prefixes):
        cut = await policy.extend(
            prefix, max_new_tokens=max_new_tokens, key=key.child("cut", i), boundary=FixedSize(2)
        )
        _check_segment(cut, eos=eos, limit=max_new_tokens, boundary=2)
        if overdraws(policy) is False:
            assert cut.num_drawn <= 2, f"overdraws is False, but {cut.num_drawn} tokens were drawn"
        one = await policy.extend(prefix, max_new_tokens=1, key=key.child("one", i))
        _check_segment(one, eos=eos, limit=1, boundary=None)
    if isinstance(policy, Likelihood):
        for prefix, segment in zip(prefixes, alone, strict=True):
            if segment.log_probs is None:
                continue
            scored = await policy.log_probs(prefix, segment.tokens)
            worst = max(abs(a - b) for a, b in zip(scored, segment.log_probs, strict=True))
            assert worst <= tolerance, f"log_probs and extend differ by {worst} nats"
    await _check_refusals(policy, prefixes[0], key)
    await _check_cancel(policy, prefixes[0], key)


async def check_reward(
    reward: Reward, examples: Sequence[tuple[Prompt, Response]], *, tolerance: float = 1e-4
) -> None:
    """Checks the laws of `Reward`.

    Args:
        reward: the reward to check.
        examples: prompts with responses of different lengths, open and finished ones.
        tolerance: greatest difference between a value alone and among other requests.

    Raises:
        AssertionError: if a law is violated.

    Example:
        >>> from rsalign.testing import ToyReward
        >>> example = Prompt((), (1,)), Response((2, 0), "2", Stop.EOS)
        >>> asyncio.run(check_reward(ToyReward(), [example, example]))
    """
    alone = [await reward.score(prompt, response) for prompt, response in examples]
    for value in alone:
        assert isinstance(value, float | int), f"{value!r} is not a number"
        assert math.isfinite(value), f"{value!r} is not finite"
    together = await concurrently(reward.score(prompt, response) for prompt, response in examples)
    worst = max(abs(a - b) for a, b in zip(alone, together, strict=True))
    assert worst <= tolerance, f"alone and among others rewards differ by {worst}"
    cancelled = asyncio.ensure_future(reward.score(*examples[0]))
    others = [asyncio.ensure_future(reward.score(*example)) for example in examples]
    await asyncio.sleep(0)
    cancelled.cancel()
    survivors = [await other for other in others]
    worst = max(abs(a - b) for a, b in zip(alone, survivors, strict=True))
    assert worst <= tolerance, "a cancelled waiter disturbed the others"


async def check_constraint(
    constraint: Constraint,
    examples: Sequence[tuple[Prompt, Response]],
    text: Callable[[Tokens], str],
) -> None:
    """Checks the laws of `Constraint`.

    Args:
        constraint: the constraint to check.
        examples: prompts with complete responses; some should be allowed, and some not.
        text: decodes the first tokens of a response, such as `Policy.text`.

    Raises:
        AssertionError: if a law is violated, or no example is allowed, or each of them is.

    Example:
        >>> from rsalign import Without
        >>> from rsalign.testing import ToyPolicy
        >>> prompt, policy = Prompt((), (1,)), ToyPolicy()
        >>> examples = [(prompt, Response((2, 1, 0), "2 1", Stop.EOS)),
        ...     (prompt, Response((1, 0), "1", Stop.EOS))]
        >>> asyncio.run(check_constraint(Without("2"), examples, policy.text))
    """
    verdicts = []
    for prompt, response in examples:
        assert response.complete, f"{response!r} is not complete: examples must be"
        allowed = await constraint.allows(prompt, response)
        assert isinstance(allowed, bool), f"{allowed!r} is neither True nor False"
        assert await constraint.allows(prompt, response) is allowed, "two calls differ"
        verdicts.append(allowed)
        for length in range(len(response.tokens)) if allowed else ():
            tokens = response.tokens[:length]
            stop = Stop.BOUNDARY if tokens else None
            prefix = Response(tokens, text(tokens), stop)
            assert await constraint.allows(prompt, prefix) is True, (
                f"{response.text!r} is allowed, but its beginning {prefix.text!r} is not"
            )
    assert any(verdicts), "no example is allowed, so that no prefix was looked at"
    assert not all(verdicts), "every example is allowed: add one that is not"


async def check_strategy(
    strategy: Strategy,
    prompt: Prompt,
    policy: Policy,
    reward: Reward,
    *,
    eos: int,
    parts: Mapping[str, Any] = NO_PARTS,
) -> None:
    """Checks the laws of `Strategy`, with a policy whose draws are reproducible.

    Args:
        strategy: the strategy to check.
        prompt: the prompt that it answers.
        policy: the toy policy, or another policy with reproducible draws.
        reward: any reward.
        eos: id of the end-of-sequence token.
        parts: the named parts that the strategy needs.

    Raises:
        AssertionError: if a law is violated.

    Example:
        >>> from rsalign import BestOf
        >>> from rsalign.testing import EOS, ToyPolicy, ToyReward
        >>> prompt = Prompt((), (1,))
        >>> asyncio.run(check_strategy(BestOf(n=4), prompt, ToyPolicy(), ToyReward(), eos=EOS))
    """
    assert pickle.loads(pickle.dumps(strategy)) == strategy, "not equal after pickling"
    before = asyncio.all_tasks()
    drawn: list[tuple[Label, ...]] = []
    streamed: list[Tokens] = []
    trace = Trace(on_commit=streamed.append)
    spied = Run(policy, reward, _SpyKey(3, (), drawn), trace, parts)
    answer = await strategy.sample(prompt, spied)
    assert asyncio.all_tasks() == before, "a task outlived the strategy"
    assert len(drawn) == len(set(drawn)), f"a key was drawn twice: {_repeated(drawn)}"
    pieces = tuple(token for piece in streamed for token in piece)
    assert pieces == trace.committed == answer.tokens, "what was committed is not the answer"
    assert eos not in answer.tokens[:-1], "something follows the end-of-sequence token"
    taken = [
        proposal.candidate
        for proposal in trace.proposals
        if proposal.verdict is not Verdict.REJECTED
    ]
    assert answer.abstained or answer in taken, (
        "the answer is not among the accepted proposals of the trace"
    )
    assert all(proposal.log_accept <= 0 for proposal in trace.proposals)
    again, *others = await concurrently(
        strategy.sample(prompt, Run(policy, reward, Key(seed), parts=parts))
        for seed in (3, 4, 5, 6)
    )
    assert again == answer, "the answer depends on what else runs"
    assert len(others) == 3


def _check_segment(segment: Segment, *, eos: int, limit: int, boundary: int | None) -> None:
    size = len(segment.tokens)
    drawn = segment.num_drawn
    assert 1 <= size <= drawn <= limit, f"{drawn} tokens drawn where 1 .. {limit} are allowed"
    assert eos not in segment.tokens[:-1], "tokens follow the end-of-sequence token"
    assert (segment.stop is Stop.EOS) == (segment.tokens[-1] == eos), f"wrong stop: {segment}"
    if segment.stop is Stop.LENGTH:
        assert size == limit, f"stopped for length at {size} of {limit} tokens"
    if segment.stop is Stop.BOUNDARY:
        assert boundary is not None, "stopped at a boundary although none was given"
        assert size == boundary, f"stopped at {size} tokens instead of {boundary}"
    if boundary is not None:
        assert size <= boundary
    if segment.log_probs is not None:
        assert len(segment.log_probs) == size
        assert all(math.isfinite(value) and value <= 0 for value in segment.log_probs)


async def _check_refusals(policy: Policy, prefix: Tokens, key: Key) -> None:
    for wrong, max_new_tokens in (((), 1), (prefix, 0), (prefix * 10_000, 1)):
        try:
            await policy.extend(wrong, max_new_tokens=max_new_tokens, key=key.child("refused"))
        except ConfigError:
            continue
        raise AssertionError(
            f"accepted a prefix of {len(wrong)} tokens and max_new_tokens={max_new_tokens}"
        )


async def _check_cancel(policy: Policy, prefix: Tokens, key: Key) -> None:
    """A cancelled call ends at once, and the policy goes on working."""
    open_call = asyncio.ensure_future(
        policy.extend(prefix, max_new_tokens=1000, key=key.child("cancelled"))
    )
    await asyncio.sleep(0.02)
    open_call.cancel()
    await asyncio.wait([open_call], timeout=10)
    assert open_call.done(), "a cancelled call did not end"
    segment = await policy.extend(prefix, max_new_tokens=1, key=key.child("after"))
    assert len(segment.tokens) == 1


def _repeated(drawn: list[tuple[Label, ...]]) -> tuple[Label, ...]:
    return next(path for path in drawn if drawn.count(path) > 1)


class _SpyKey(Key):
    """A key that records the address of every draw."""

    _drawn: list[tuple[Label, ...]]

    def __init__(self, root: int, path: tuple[Label, ...], drawn: list[tuple[Label, ...]]) -> None:
        super().__init__(root, path)
        object.__setattr__(self, "_drawn", drawn)

    def child(self, *labels: Label) -> "_SpyKey":
        return _SpyKey(self.root, self.path + labels, self._drawn)

    def seed(self) -> int:
        self._drawn.append(self.path)
        return super().seed()
