"""align(): one prompt, one strategy, one result."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rsalign.core.budget import Budget, Usage
from rsalign.core.capabilities import cuts_answers, needs_reward
from rsalign.core.checks import shown
from rsalign.core.errors import ConfigError, PolicyError, RewardError, RsalignError, StrategyError
from rsalign.core.foreign import errors_as, told
from rsalign.core.journal import Journal, JournaledPolicy, JournaledReward
from rsalign.core.key import Key
from rsalign.core.meter import Meter, MeteredPolicy, MeteredReward
from rsalign.core.nesting import walk_strategies
from rsalign.core.protocols import Policy, Reward, Strategy, sampling
from rsalign.core.run import Run
from rsalign.core.text.response_text import response_text
from rsalign.core.trace import Progress, Trace, Verdict
from rsalign.core.types import (
    WHOLE_ANSWER_FIELDS,
    Candidate,
    Prompt,
    Response,
    Sampling,
    Stop,
    Tokens,
)

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
            strategy's law does not hold then, and `Budget` says what comes back. Where
            `Budget.completion_tokens` completed it, it was not judged.
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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about this run, in plain English, without repeats."""
        return self.trace.all_warnings()


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
        ConfigError: if the strategy needs a reward and none is given, or cannot draw from the
            policy's law (`check_law`).
        PolicyError: if the policy failed; an `EngineError` if its engine is gone.
        RewardError: if the reward failed or is not finite.
        StrategyError: if the strategy itself failed, or a function that it was given.
    """
    if reward is None and needs_reward(strategy):
        raise ConfigError(
            f"{type(strategy).__name__} needs a reward: give reward=..., a model, a Reward or a "
            "callable (prompt_text, response_text) -> float"
        )
    check_law(strategy, sampling(policy), budget)
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
            run = Run(MeteredPolicy(policy, meter), MeteredReward(reward, meter), key, trace)
            candidate = await _sampled(strategy, prompt, run, deadline)
    except TimeoutError:
        if not deadline.expired():
            raise
        candidate, judged = await _best_so_far(run, reward, meter)
        expired = True
        if budget.completion_tokens and not candidate.response.complete:
            run = Run(policy, MeteredReward(None, meter), key.child("completion"), trace)
            candidate = await _completed(candidate.tokens, run, meter, _max_tokens(strategy))
            judged = False
    except RewardError:
        if on_reward_error == "raise":
            raise
        candidate, judged = await _best_so_far(run, reward, meter)
        expired = True
        trace.note(reward_failed=True)
    else:
        judged, expired = reward is not None, False
    _warn_of_forced(trace)
    for each in trace.walk():
        each.estimate = None  # it holds the whole run
    return Result(
        candidate=candidate,
        judged=judged,
        trace=trace,
        usage=meter.usage(len(candidate.tokens)),
        seed=key.root,
        expired=expired,
    )


def check_law(strategy: Strategy, law: Sampling, budget: Budget | None = None) -> None:
    """Refuses a law that a strategy cannot draw from, before any work.

    Args:
        strategy: what draws.
        law: what it is to draw from.
        budget: of the run.

    Raises:
        ConfigError: if the strategy cuts answers, or the budget would continue one that it cut
            (`Budget.completion_tokens`), and the law needs answers drawn at once.
    """
    names = law.whole_answer_fields
    if names and budget is not None and budget.completion_tokens:
        raise ConfigError(
            f"{names[0]}={str(getattr(law, names[0]))[:200]} and completion_tokens="
            f"{budget.completion_tokens} exclude each other: the completion continues an answer "
            f"from the middle, and {WHOLE_ANSWER_FIELDS[names[0]]}"
        )
    if names and cuts_answers(strategy):
        raise ConfigError(
            f"{names[0]}={str(getattr(law, names[0]))[:200]} cannot be honoured by "
            f"{type(strategy).__name__}, which continues answers from the middle: "
            f"{WHOLE_ANSWER_FIELDS[names[0]]}. Leave it out, or choose a strategy that draws whole "
            "answers (plain, best_of, early_stop, rejection)"
        )


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


async def _best_so_far(run: Run, reward: Reward | None, meter: Meter) -> tuple[Candidate, bool]:
    """The answer of a run that was ended early, and whether it was judged; see `Budget`.

    What was committed was streamed, perhaps, and is never contradicted.
    """
    trace = run.trace
    committed = trace.committed
    own = await _own_answer(run)
    if own is None or own.tokens[: len(committed)] != committed:
        own = meter.best_finished(committed)
    if own is not None:
        return own, reward is not None and not _is_unjudged(own.response, meter)
    if unjudged := meter.first_unjudged(committed):
        return Candidate(unjudged, 0.0), False
    for proposal in reversed(trace.proposals):
        if committed and proposal.candidate.tokens == committed:
            return proposal.candidate, reward is not None
    tokens = committed or meter.partial
    text = response_text(run.policy, meter.prompt.tokens, tokens)
    return Candidate(Response(tokens, text, None), 0.0), False


def _is_unjudged(response: Response, meter: Meter) -> bool:
    """Whether the run ended before the reward of a response was known."""

    def is_same(other: Response) -> bool:
        return other.address == response.address and other.tokens == response.tokens

    return any(map(is_same, meter.unjudged)) and not any(
        is_same(candidate.response) for candidate in meter.finished
    )


async def _own_answer(run: Run) -> Candidate | None:
    """What the strategy would answer now, if it says how that is found and nobody must be asked."""

    def failed(failure: BaseException) -> StrategyError:
        return StrategyError(f"choosing among them raised {told(failure)}")

    trace = run.trace
    if trace.estimate is None:
        return None
    why = ""
    try:
        # a budget is spent: what waits for somebody (a judge, say) is cancelled at its first wait
        async with asyncio.timeout(0) as deadline:
            with errors_as(failed):
                return await trace.estimate()
    except TimeoutError:
        if not deadline.expired():
            raise
        why = "somebody else would have to be asked"
    except RsalignError as error:
        why = str(error)
    trace.warn(
        "the run was ended early, and the strategy cannot choose among the answers drawn until "
        f"then ({why}): the best by reward is returned, or the first where there is no reward"
    )
    return None


def _warn_of_forced(trace: Trace) -> None:
    """Warns if more than half of what was taken had been rejected before."""
    taken: dict[int, Verdict] = {}
    for each in trace.walk():
        for proposal in each.proposals:
            if proposal.verdict is Verdict.REJECTED:
                continue
            # an outer run may accept what an inner one was forced to take
            known = taken.get(id(proposal.candidate))
            if known is not Verdict.FORCED:
                taken[id(proposal.candidate)] = proposal.verdict
    num_forced = list(taken.values()).count(Verdict.FORCED)
    if 2 * num_forced > len(taken):
        trace.warn(
            f"{num_forced} of {len(taken)} segments or answers were forced: they were taken "
            "although none of their drafts was accepted, so that the strategy's law does not hold "
            "for them; lower the target or bound, raise beta, or allow more tries"
        )


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
    limits = (getattr(one, "max_tokens", None) for one in walk_strategies(strategy))
    return next((limit for limit in limits if isinstance(limit, int)), sys.maxsize)
