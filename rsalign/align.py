"""align(): one prompt, one strategy, one result."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rsalign.budget import Budget, Meter, MeteredPolicy, MeteredReward, Usage
from rsalign.checks import shown
from rsalign.errors import ConfigError, PolicyError, RewardError, RsalignError, StrategyError
from rsalign.foreign import errors_as, told
from rsalign.journal import Journal, JournaledPolicy, JournaledReward
from rsalign.key import Key
from rsalign.protocols import Policy, Reward, Strategy
from rsalign.response_text import response_text
from rsalign.run import Run
from rsalign.trace import Progress, Trace
from rsalign.types import Candidate, Prompt, Response, Stop, Tokens

OnRewardError: TypeAlias = Literal["raise", "best"]
"""What a reward that fails does to a run."""
OnProgress: TypeAlias = Callable[[Progress, Usage], None]
"""Is told where a run stands, and what it has spent until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one prompt.

    Attributes:
        candidate: the answer.
        judged: whether a reward was asked about it. If not (none was given, or the budget ended
            the run first), ``candidate.reward`` is 0 and means nothing; `reward` is None.
        trace: everything considered on the way.
        usage: what it cost.
        seed: root of all randomness.
        expired: whether the budget ended the run, or a reward that failed (see `align`); the
            strategy's law does not hold then. Where `Budget.completion_tokens` completed it, it
            was not judged.
    """

    candidate: Candidate
    judged: bool
    trace: Trace
    usage: Usage
    seed: int
    expired: bool

    @property
    def reward(self) -> float | None:
        """The answer's reward, if it was judged."""
        return self.candidate.reward if self.judged else None


async def align(
    prompt: Prompt,
    strategy: Strategy,
    *,
    policy: Policy,
    reward: Reward | None = None,
    seed: int | Key = 0,
    on_commit: Callable[[Tokens], None] | None = None,
    on_progress: OnProgress | None = None,
    budget: Budget | None = None,
    journal: Journal | None = None,
    on_reward_error: OnRewardError = "raise",
) -> Result:
    """Answers one prompt; many are answered by awaiting many of these at once.

    Args:
        prompt: what is answered.
        strategy: whose law the answer is drawn from.
        policy: draws continuations.
        reward: scores responses; None for a strategy that needs none.
        seed: root of all randomness, or an address below which this run draws.
        on_commit: called with each piece of the final answer as soon as it is certain.
        on_progress: called now and then by a strategy that decides at the end, with its present
            answer and with what was spent so far (of which nothing is kept yet).
        budget: hard limits. What a journal replays counts as spent, so that an interrupted run
            ends as one that was not.
        journal: where draws and rewards are on record.
        on_reward_error: ``"best"`` ends the run at a reward that fails as a budget would: what is
            best so far comes back, flagged as expired, with the note ``reward_failed``.

    Raises:
        ConfigError: if the strategy needs a reward and none is given.
        PolicyError: if the policy failed; an `EngineError` if its engine is gone.
        RewardError: if the reward failed or is not finite.
        StrategyError: if the strategy itself failed, or a function that it was given.
    """
    if reward is None and needs_reward(strategy):
        raise ConfigError(
            f"{type(strategy).__name__} needs a reward: give reward=..., a model, a Reward or a "
            "callable (prompt_text, response_text) -> float"
        )
    key = seed if isinstance(seed, Key) else Key(seed)
    trace = Trace(on_commit=on_commit)
    budget = budget or Budget()
    try:
        async with (
            # before the clock runs: what a journal cannot tell from others is refused first
            contextlib.nullcontext() if journal is None else journal.holding(policy, reward),
            asyncio.timeout(budget.seconds) as deadline,
        ):
            meter = Meter(prompt, budget, deadline)
            if journal is not None:
                policy = JournaledPolicy(policy, journal, meter.replayed)
                reward = JournaledReward(reward, journal) if reward else None
            if on_progress is not None:
                trace.on_progress = lambda progress: on_progress(progress, meter.usage(0))
            run = Run(
                MeteredPolicy(policy, meter),
                MeteredReward(reward, meter) if reward else _Unjudged(),
                key,
                trace,
            )
            candidate = await _sampled(strategy, prompt, run, deadline)
    except TimeoutError:
        if not deadline.expired():
            raise
        candidate, judged = _best_so_far(run.policy, meter, trace)
        expired = True
        if budget.completion_tokens and not candidate.response.complete:
            run = Run(policy, _Unjudged(), key.child("completion"), trace)
            candidate = await _completed(candidate.tokens, run, meter, _max_tokens(strategy))
            judged = False
    except RewardError:
        if on_reward_error == "raise":
            raise
        candidate, judged = _best_so_far(run.policy, meter, trace)
        expired = True
        trace.note(reward_failed=True)
    else:
        judged, expired = reward is not None, False
    return Result(
        candidate=candidate,
        judged=judged,
        trace=trace,
        usage=meter.usage(len(candidate.tokens)),
        seed=key.root,
        expired=expired,
    )


def needs_reward(strategy: Strategy) -> bool:
    """Whether a strategy asks for rewards; one that does not says so (see `Strategy`)."""
    return bool(getattr(strategy, "needs_reward", True))


async def _sampled(
    strategy: Strategy, prompt: Prompt, run: Run, deadline: asyncio.Timeout
) -> Candidate:
    """What the strategy draws; the edge of strategies and of all functions that they are given."""
    name = type(strategy).__name__

    def failed(failure: BaseException) -> StrategyError:
        return StrategyError(
            f"{name} raised {told(failure)}: if it has a part of your own (a strategy, a selector, "
            "an extractor, a function), mend that; the cause has the place",
            prompt=prompt,
        )

    try:
        with errors_as(failed):
            candidate = await strategy.sample(prompt, run)
    except RsalignError as failure:
        if deadline.expired():  # a call that is cancelled may fail in a way of its own
            raise asyncio.CancelledError from failure
        raise
    if not isinstance(candidate, Candidate):
        raise StrategyError(
            f"{name}.sample returned {shown(candidate)}, but must return a Candidate", prompt=prompt
        )
    return candidate


def _best_so_far(policy: Policy, meter: Meter, trace: Trace) -> tuple[Candidate, bool]:
    """The best complete answer; else what is certain of one; else the longest piece of one.

    What was committed was streamed, perhaps, and is never contradicted.
    """
    committed = trace.committed
    if meter.best is not None and meter.best.tokens[: len(committed)] == committed:
        return meter.best, True
    for proposal in reversed(trace.proposals):
        if committed and proposal.candidate.tokens == committed:
            return proposal.candidate, True
    tokens = committed or meter.partial
    text = response_text(policy, meter.prompt.tokens, tokens)
    return Candidate(Response(tokens, text, None), 0.0), False


async def _completed(kept: Tokens, run: Run, meter: Meter, max_tokens: int) -> Candidate:
    """What is kept of an answer, and what the policy says next."""
    limit = min(max_tokens, len(kept) + meter.budget.completion_tokens)

    def failed(failure: BaseException) -> PolicyError:
        return PolicyError(f"the policy raised {told(failure)}", prompt=meter.prompt)

    with errors_as(failed):
        candidate = await run.draft(meter.prompt, kept, max_tokens=limit)
    meter.count(
        policy_requests=1,
        prompt_tokens=len(meter.prompt.tokens) + len(kept),
        policy_tokens_drawn=len(candidate.tokens) - len(kept),
    )
    run.trace.commit(candidate.tokens[len(run.trace.committed) :])
    response = candidate.response
    if response.stop is Stop.LENGTH and limit < max_tokens:
        candidate = Candidate(replace(response, stop=None), candidate.reward)  # it could go on
    return candidate


def _max_tokens(strategy: Strategy) -> int:
    """The greatest length of a strategy's answers; a nested one has it inside."""
    own = getattr(strategy, "max_tokens", None)
    inner = getattr(strategy, "inner", None)
    if isinstance(own, int):
        return own
    return sys.maxsize if inner is None else _max_tokens(inner)


@dataclass(frozen=True, slots=True)
class _Unjudged:
    """Stands where no reward was given; `Result.reward` never shows its value."""

    async def score(self, prompt: Prompt, response: Response) -> float:
        return 0.0
