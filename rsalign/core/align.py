"""align(): answers one prompt with one strategy, within a budget."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

from rsalign.core.budget import Budget, Meter, Usage
from rsalign.core.capabilities import cuts_answers, excludes, needs_reward
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, PolicyError, RewardError, RsalignError, StrategyError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.journal import Journal
from rsalign.core.journaled import JournaledPolicy, JournaledReward, journal_part
from rsalign.core.key import Key
from rsalign.core.meter import MeteredPolicy, MeteredReward, meter_part
from rsalign.core.nesting import walk_strategies
from rsalign.core.parts import bind_parts, collect_parts
from rsalign.core.protocols import Policy, Reward, Strategy, get_sampling
from rsalign.core.run import Run
from rsalign.core.sampling import WHOLE_ANSWER_FIELDS
from rsalign.core.segment_ends import check_boundaries
from rsalign.core.text.reasoning import Dividing
from rsalign.core.text.response_text import read_response, response_text
from rsalign.core.trace import Progress, Trace, Verdict
from rsalign.core.types import Candidate, Prompt, Response, Sampling, Stop, Tokens

OnRewardError: TypeAlias = Literal["raise", "best"]
"""What happens to a run whose reward fails: raise the error, or return the best answer so far."""
OnProgress: TypeAlias = Callable[[Progress, Usage], None]
"""Called with the progress of a run and with its cost so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer to one prompt.

    Attributes:
        candidate: the answer.
        judged: whether a reward scored it. If not (no reward was given, the budget ended the run
            first, or there is no answer), ``candidate.reward`` is 0 without a meaning, and `reward`
            is None.
        trace: everything that the strategy considered.
        usage: the cost.
        seed: root of all randomness.
        expired: whether the budget, or a reward that failed (see `align`), ended the run early. The
            answer then does not follow the strategy's distribution; `Budget` says which answer is
            returned. An answer that `Budget.completion_tokens` completed was not scored.

    Example:
        >>> import asyncio
        >>> from rsalign import BestOf
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> result = asyncio.run(
        ...     align(Prompt((), (1,)), BestOf(n=4), policy=ToyPolicy(), reward=ToyReward())
        ... )
        >>> result.judged, result.expired, len(result.trace.proposals), result.usage.reward_calls
        (True, False, 4, 4)
    """

    candidate: Candidate
    judged: bool
    trace: Trace
    usage: Usage
    seed: int
    expired: bool

    @property
    def reward(self) -> float | None:
        """The answer's reward; None if it was not scored."""
        return self.candidate.reward if self.judged else None

    @property
    def components(self) -> dict[str, float]:
        """The named components of the answer's reward; empty if it was not scored or has none."""
        return dict(self.candidate.parts) if self.judged else {}

    @property
    def abstained(self) -> bool:
        """Whether there is no answer; `Response.stop_reason` says why."""
        return self.candidate.abstained

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about this run, in plain English, each message once."""
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
    on_start: Callable[[Callable[[], None]], None] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Result:
    """Answers one prompt. To answer many prompts, await many of these calls at once.

    Args:
        prompt: what is answered.
        strategy: determines the distribution that the answer is drawn from.
        policy: draws continuations.
        reward: scores responses; None for a strategy that needs no reward.
        seed: root of all randomness, or a key below whose address this run draws.
        on_commit: called with each piece of the final answer as soon as it is certain (streaming).
        on_progress: called from time to time by a strategy that decides at the end, with its
            current answer and the cost so far.
        budget: hard limits. Replayed draws count as spent, so that an interrupted run ends like one
            that was not interrupted.
        journal: records draws and rewards, and replays them.
        on_reward_error: ``"best"`` treats a failure of the reward like a spent budget: the best
            answer so far is returned, marked as expired, with the note ``reward_failed``.
        on_start: called once with a function that ends the run as if its time were spent.
        parts: the named parts that the strategy needs (`Run.part`): policies, rewards or judges.

    Raises:
        ConfigError: if the strategy needs a reward or a part and none is given, or if it cannot
            draw with the policy's sampling settings (`check_law`), or end its segments in the
            policy.
        PolicyError: if the policy failed; an `EngineError` if its engine is gone.
        RewardError: if the reward failed or returned a number that is not finite.
        StrategyError: if the strategy failed, or a function that it was given.
    """
    if reward is None and needs_reward(strategy):
        raise ConfigError(
            f"{type(strategy).__name__} needs a reward: give reward=..., a model, a Reward or a "
            "callable (prompt_text, response_text) -> float"
        )
    check_law(strategy, get_sampling(policy), budget)
    check_boundaries(strategy, policy)
    parts = collect_parts(strategy, parts or {})
    key = seed if isinstance(seed, Key) else Key(seed)
    trace = Trace(on_commit=on_commit)
    for warning in prompt.warnings:
        trace.warn(warning)
    budget = budget or Budget()
    try:
        async with (
            # before the clock starts: a part without a fingerprint is refused
            contextlib.nullcontext()
            if journal is None
            else journal.hold_fingerprints(policy, reward, *parts.values()),
            asyncio.timeout(budget.seconds) as deadline,
        ):
            meter = Meter(prompt, budget, deadline)
            if on_start is not None:
                on_start(partial(_expire, deadline))
            if journal is not None:
                policy = JournaledPolicy(policy, journal, meter.replayed)
                reward = JournaledReward(reward, journal) if reward else None
            if on_progress is not None:
                trace.on_progress = lambda progress: on_progress(progress, meter.usage(0))
            metered = {name: _own(name, part, meter, journal) for name, part in parts.items()}
            run = Run(
                MeteredPolicy(policy, meter), MeteredReward(reward, meter), key, trace, metered
            )
            replaced = {id(part): metered[name] for name, part in parts.items()}
            bound: Strategy = bind_parts(strategy, metered, replaced)
            candidate = await _sampled(bound, prompt, run, deadline)
    except TimeoutError:
        if not deadline.expired():
            raise
        candidate, judged = await _best_so_far(run, reward, meter)
        expired = True
        completes = budget.completion_tokens and not excludes(reward)
        if completes and not candidate.response.complete:
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
        judged, expired = reward is not None and not candidate.abstained, False
    if expired and not candidate.response.complete:
        candidate = _as_answer(run, prompt, candidate)
    _warn_of_forced(trace)
    for each in trace.walk():
        each.estimate = None  # the function refers to the whole run
    return Result(
        candidate=candidate,
        judged=judged,
        trace=trace,
        usage=meter.usage(len(candidate.tokens)),
        seed=key.root,
        expired=expired,
    )


def _own(name: str, part: Any, meter: Meter, journal: Journal | None) -> Any:
    """A named part of the run, metered and journaled by itself."""
    own = meter.of_part(name)
    if journal is not None:
        part = journal_part(part, journal, own.replayed)
    return meter_part(part, own, name)


def _expire(deadline: asyncio.Timeout) -> None:
    with contextlib.suppress(RuntimeError):  # the run has ended
        deadline.reschedule(0.0)


def check_law(strategy: Strategy, law: Sampling, budget: Budget | None = None) -> None:
    """Refuses sampling settings that a strategy cannot honour, before any work is done.

    Args:
        strategy: the strategy that is to draw.
        law: the policy's sampling settings.
        budget: the budget of the run.

    Raises:
        ConfigError: if a setting works only for answers drawn at once, while the strategy continues
            answers from the middle, or the budget does (`Budget.completion_tokens`).
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
    """Runs the strategy; what it, or a function it was given, raises becomes a `StrategyError`."""
    name = type(strategy).__name__

    def failed(failure: BaseException) -> StrategyError:
        return StrategyError(
            f"{name} raised {describe_error(failure)}: if it has a part of your own (a strategy, a "
            "selector, an extractor, a function), fix that; the traceback of the cause shows where",
            prompt=prompt,
        )

    try:
        with errors_as(failed):
            candidate = await strategy.sample(prompt, run)
    except RsalignError as failure:
        if deadline.expired():  # a cancelled call may raise an error of its own
            raise asyncio.CancelledError from failure
        raise
    if not isinstance(candidate, Candidate):
        raise StrategyError(
            f"{name}.sample returned {quote(candidate)}, but must return a Candidate", prompt=prompt
        )
    if candidate.excluded and not candidate.abstained:
        return run.abstain(prompt, f"what {name} chose is not allowed")
    return candidate


async def _best_so_far(run: Run, reward: Reward | None, meter: Meter) -> tuple[Candidate, bool]:
    """Returns the answer of a run that ended early, and whether it was scored; see `Budget`.

    Committed tokens may have been streamed already, so the answer begins with them.
    """
    trace, committed = run.trace, run.trace.committed
    own = await _own_answer(run)
    if own is None or own.excluded or own.tokens[: len(committed)] != committed:
        own = meter.best_finished(committed)
    if own is not None:
        return own, reward is not None and not _is_unjudged(own.response, meter)
    if not excludes(reward) and (unjudged := meter.first_unjudged(committed)):
        return Candidate(unjudged, 0.0), False
    for proposal in reversed(trace.proposals):
        if committed and proposal.candidate.tokens == committed:
            return proposal.candidate, reward is not None
    if excludes(reward):
        return run.abstain(meter.prompt, "the run ended before anything allowed was found"), False
    tokens = committed or meter.partial
    text, reasoning = read_response(run.policy, meter.prompt, tokens)
    return Candidate(Response(tokens, text, None, reasoning=reasoning), 0.0), False


def _as_answer(run: Run, prompt: Prompt, candidate: Candidate) -> Candidate:
    """The candidate without its thought, which a partial response may be judged by."""
    policy, response = run.policy, candidate.response
    if not isinstance(policy, Dividing) or not policy.divides:
        return candidate
    whole = response_text(policy, prompt.tokens, response.tokens)
    text, _ = policy.divide(prompt, response.tokens, whole, complete=True)
    return replace(candidate, response=replace(response, text=text))


def _is_unjudged(response: Response, meter: Meter) -> bool:
    """Whether the run ended before the reward of a response was known."""

    def is_same(other: Response) -> bool:
        return other.address == response.address and other.tokens == response.tokens

    return any(map(is_same, meter.unjudged)) and not any(
        is_same(candidate.response) for candidate in meter.finished
    )


async def _own_answer(run: Run) -> Candidate | None:
    """Returns the strategy's own choice among the responses so far; None if there is none."""

    def failed(failure: BaseException) -> StrategyError:
        return StrategyError(
            f"choosing among the answers drawn so far raised {describe_error(failure)}"
        )

    trace = run.trace
    if trace.estimate is None:
        return None
    why = ""
    try:
        # the budget is spent: a choice that waits for anything (a judge, say) is cancelled at once
        async with asyncio.timeout(0) as deadline:
            with errors_as(failed):
                return await trace.estimate()
    except TimeoutError:
        if not deadline.expired():
            raise
        why = "its selector would have to wait for a judge or another model"
    except RsalignError as error:
        why = str(error)
    trace.warn(
        "the run was ended early, and the strategy cannot choose among the answers drawn until "
        f"then ({why}): the best by reward is returned, or the first where there is no reward"
    )
    return None


def _warn_of_forced(trace: Trace) -> None:
    """Warns if more than half of the taken candidates were taken without being accepted."""
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
    """Continues the kept tokens of an answer with the policy alone."""
    limit = min(max_tokens, len(kept) + meter.budget.completion_tokens)

    def failed(failure: BaseException) -> PolicyError:
        return PolicyError(f"the policy raised {describe_error(failure)}", prompt=meter.prompt)

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
        candidate = Candidate(
            replace(response, stop=None), candidate.reward
        )  # the strategy's limit would allow more tokens
    return candidate


def _max_tokens(strategy: Strategy) -> int:
    """Returns the `max_tokens` of a strategy, or of the strategy that it wraps."""
    limits = (getattr(one, "max_tokens", None) for one in walk_strategies(strategy))
    return next((limit for limit in limits if isinstance(limit, int)), sys.maxsize)
