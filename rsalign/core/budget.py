"""Limits on what one run may spend, the record of what it spent, and the meter between them.

`Budget` and `Usage` are public values. `Meter` belongs to one call of `rsalign.core.align.align`:
it counts, ends the run when a limit is reached, and remembers the answers that can then be
returned. Strategies know none of the three.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from rsalign.core.checks import above, at_least, check_settings, setting_error
from rsalign.core.key import Label
from rsalign.core.tasks import Turn, current_turn, num_open_before, wait_for_turn
from rsalign.core.types import Candidate, Prompt, Response, Scored, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard limits on the cost of answering one prompt; None means no limit.

    When a limit is reached, the open requests are cancelled in the engine and the best answer so
    far is returned, marked as expired; no error is raised. That answer is the first of the
    following that exists and that begins with the tokens that were already streamed:

    1. The answer that the strategy itself selects from the responses finished so far
       (`Trace.answer_by`). A strategy that votes, averages or selects applies its own estimator to
       fewer draws. A selector that would have to ask a judge (`Knockout`) is not run.
    2. The finished response with the highest reward; among equal ones, the first by address.
    3. A finished response that was not scored in time.
    4. The longest partial response. `completion_tokens` lets the policy complete the part of it
       that was certain.

    If the reward may exclude responses (`rsalign.Constraint`), only what it has allowed is
    returned: the first two, or the part that was certain, or else an abstention.

    `policy_tokens` and `reward_calls` are never exceeded:

    - Before a draw starts, it reserves the most tokens that it can take: the greatest size of a
      segment, or more for a policy that draws past it (`Policy.overdraws`). It waits while other
      draws hold the rest of the budget. Draws are admitted in the order of their requests, and the
      last one is admitted with what is left.
    - Reward calls that are open when tokens or calls run out may finish.
    - Some strategies run several attempts in parallel and look at them in order
      (`Cards.proposals`, `Rejection.at_once`). An attempt that finds nothing left ends the run only
      after all earlier attempts were rejected, and no attempt takes a reward call that an earlier
      one may need. The number of parallel attempts therefore does not change the answer of a run
      that finishes within its budget.

    `seconds` is exceeded by the time that cancelling takes (one engine step) and by the completion.

    Attributes:
        policy_tokens: tokens drawn from the policy, including those that were discarded.
        reward_calls: calls of the reward.
        seconds: wall-clock time.
        parts: limits of named parts of the run (`Run.part`), by name, each a `Budget` of its own
            or its settings: ``{"judge": {"reward_calls": 8}}``. `policy_tokens` limits what is
            drawn from the part, `reward_calls` how often it is asked; time is that of the whole
            run. The limits above are those of the policy and the reward alone.
        completion_tokens: part of `policy_tokens` that is held back. If the answer is incomplete
            when a limit is reached, the policy alone continues its certain part by at most so many
            tokens, never beyond the strategy's `max_tokens`, and the result is not scored. 0: the
            answer is returned as it stands.

    Raises:
        ConfigError: if a limit is not a positive number, or if `completion_tokens` leaves nothing
            of `policy_tokens`.

    Example:
        >>> import asyncio
        >>> from rsalign import BestOf, Prompt, align
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> parts = {"policy": ToyPolicy(), "reward": ToyReward()}
        >>> result = asyncio.run(
        ...     align(Prompt((), (1,)), BestOf(n=8), budget=Budget(reward_calls=3), **parts)
        ... )
        >>> result.expired, result.usage.reward_calls
        (True, 3)
    """

    policy_tokens: int | None = None
    reward_calls: int | None = None
    seconds: float | None = None
    completion_tokens: int = 0
    parts: Mapping[str, "Budget"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _read_parts(self))
        none = "None means no limit"
        check_settings(
            self,
            policy_tokens=at_least(1, note=none),
            reward_calls=at_least(1, note=none),
            seconds=above(0.0, note=none),
            completion_tokens=at_least(0, note="0 completes nothing"),
        )
        if self.completion_tokens >= (self.policy_tokens or math.inf):
            raise setting_error(
                self,
                "completion_tokens",
                f"a whole number below policy_tokens={self.policy_tokens}, of which it is a part",
            )


def _read_parts(budget: Budget) -> dict[str, Budget]:
    """The limits of the parts, each as a `Budget`; refuses what a part cannot spend."""
    wanted = "limits by the name of a part, such as {'judge': {'reward_calls': 8}}"
    if not isinstance(budget.parts, Mapping):
        raise setting_error(budget, "parts", wanted)
    found = {}
    for name, given in budget.parts.items():
        if not isinstance(name, str) or not isinstance(given, Budget | Mapping):
            raise setting_error(budget, "parts", wanted)
        unknown: list[str] = [] if isinstance(given, Budget) else [*given.keys() - Budget.__slots__]
        if unknown:
            raise setting_error(budget, "parts", f"{wanted}; there is no {unknown[0]!r}")
        found[name] = given if isinstance(given, Budget) else Budget(**given)
        if found[name].seconds or found[name].completion_tokens or found[name].parts:
            raise setting_error(
                budget, "parts", "policy_tokens and reward_calls alone to each part"
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The cost of answering one prompt.

    Attributes:
        policy_requests: requests to the engine.
        policy_tokens_drawn: tokens drawn, including those of discarded and cancelled draws.
        policy_tokens_kept: tokens of the answer.
        prompt_tokens: prefix tokens, summed over all requests. The request for a later segment
            counts its whole prefix.
        cached_tokens: prefix tokens that the engine found in its prefix cache.
        reward_calls: calls of the reward.
        reward_tokens: tokens that reward models were given.
        reward_cached_tokens: tokens that reward models found in their prefix caches.
        seconds: wall-clock time; replaying from a journal takes almost none.
        replayed: draws that a journal answered. All other fields except `seconds` count a replayed
            draw or reward as if it had been paid for again.
        parts: the cost of each named part of the run (`Run.part`), in the same fields, which the
            fields above do not include. No token of a part is kept, and its seconds are 0.

    Example:
        >>> both = Usage(reward_calls=2, seconds=0.5) + Usage(reward_calls=1, seconds=1.0)
        >>> both.reward_calls, both.seconds
        (3, 1.5)
    """

    policy_requests: int = 0
    policy_tokens_drawn: int = 0
    policy_tokens_kept: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    reward_cached_tokens: int = 0
    seconds: float = 0.0
    replayed: int = 0
    parts: Mapping[str, "Usage"] = field(default_factory=dict)

    def __add__(self, other: "Usage") -> "Usage":
        """The sum of every field; seconds are added, too."""
        names = [name for name in Usage.__slots__ if name != "parts"]
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            parts={
                name: self.parts.get(name, _NOTHING) + other.parts.get(name, _NOTHING)
                for name in dict.fromkeys((*self.parts, *other.parts))
            },
        )

    def spent(self) -> dict[str, float]:
        """Every field by name; those of a part as ``judge.reward_calls``.

        Example:
            >>> Usage(parts={"judge": Usage(reward_calls=3)}).spent()["judge.reward_calls"]
            3
        """
        own = {name: getattr(self, name) for name in Usage.__slots__ if name != "parts"}
        for part, usage in self.parts.items():
            spent = usage.spent()
            own |= {f"{part}.{name}": spent[name] for name in _OF_PARTS}
        return own


_NOTHING = Usage()
_OF_PARTS = (
    "policy_requests",
    "policy_tokens_drawn",
    "prompt_tokens",
    "cached_tokens",
    "reward_calls",
    "reward_tokens",
    "reward_cached_tokens",
)
"""The fields that a part of a run can spend."""


@dataclass(slots=True)
class OpenCalls:
    """The calls of the reward, and of judges, that are open now."""

    number: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Meter:
    """Counts the cost of one run, ends it at its budget, and remembers the best answer so far.

    `rsalign.core.meter.MeteredPolicy` and `MeteredReward` report to it.

    Attributes:
        prompt: the prompt that is answered.
        budget: the limits.
        deadline: the timeout scope of the run; it is made to expire when a limit is reached.
        finished: complete responses that were scored (in a run without a reward: drawn).
        unjudged: complete responses that were passed to the reward, scored or not.
        partial: tokens of the longest response so far that was never scored as complete.

    Example:
        >>> import asyncio
        >>> async def count_tokens():
        ...     async with asyncio.timeout(None) as deadline:
        ...         meter = Meter(Prompt((), (1,)), Budget(policy_tokens=10), deadline)
        ...         granted = await meter.reserve(4)
        ...         meter.release(granted, drawn=3)
        ...     return meter.usage(kept=3)
        >>> asyncio.run(count_tokens()).policy_tokens_drawn
        3
    """

    prompt: Prompt
    budget: Budget
    deadline: asyncio.Timeout
    finished: list[Candidate] = field(default_factory=list)
    unjudged: list[Response] = field(default_factory=list)
    partial: Tokens = ()
    _spent: Counter[str] = field(default_factory=Counter)  # by field of `Usage`
    _reserved: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _calls: OpenCalls = field(default_factory=OpenCalls)
    _parts: "dict[str, Meter]" = field(default_factory=dict)
    # the run itself may be part of an attempt; it waits for turns of attempts inside it only
    _outside: Turn | None = field(default_factory=current_turn)
    _started: float = field(default_factory=time.perf_counter)

    def usage(self, kept: int) -> Usage:
        """Returns the cost so far, given that the answer has `kept` tokens."""
        seconds = time.perf_counter() - self._started
        parts = {name: replace(meter.usage(0), seconds=0.0) for name, meter in self._parts.items()}
        return Usage(**self._spent, policy_tokens_kept=kept, seconds=seconds, parts=parts)

    def of_part(self, name: str) -> "Meter":
        """Returns the meter of a named part; when the part's budget ends, so does the run."""
        if name not in self._parts:
            budget = self.budget.parts.get(name, Budget())
            self._parts[name] = Meter(self.prompt, budget, self.deadline, _calls=self._calls)
        return self._parts[name]

    def count(self, **amounts: int) -> None:
        """Adds amounts to the named fields of `Usage`."""
        self._spent.update(amounts)

    def replayed(self) -> None:
        """Counts one draw that a journal answered."""
        self.count(replayed=1)

    @property
    def limits_tokens(self) -> bool:
        """Whether the number of drawn tokens is limited."""
        return self.budget.policy_tokens is not None

    async def reserve(self, num_tokens: int) -> int:
        """Waits until `num_tokens` tokens may be drawn and reserves them; returns their number.

        Draws are admitted in the order of their requests, so that short draws cannot starve a long
        one. If too few tokens are left when no other draw is open, the rest is reserved. If none
        is left, the run ends (`expire`).
        """
        if self.budget.policy_tokens is None:
            return num_tokens
        limit = self.budget.policy_tokens - self.budget.completion_tokens
        async with self._turn:  # asyncio's locks are fair
            while True:
                left = limit - self._spent["policy_tokens_drawn"] - self._reserved
                if left >= num_tokens or not self._reserved:
                    break
                self._released.clear()
                await self._released.wait()
            granted = max(0, min(left, num_tokens))
            self._reserved += granted
        if not granted:
            await self.expire()
        return granted

    def release(self, granted: int, drawn: int) -> None:
        """Ends a reservation of `granted` tokens, of which `drawn` were used."""
        self.count(policy_tokens_drawn=drawn)
        if self.limits_tokens:
            self._reserved -= granted
            self._released.set()

    async def admit_reward_call(self) -> None:
        """Counts one call of the reward, or ends the run if no call is left.

        Among parallel attempts (`rsalign.core.tasks.until`), one call is kept back for each earlier
        attempt that is still open, however fast this one is: an earlier attempt may be accepted,
        and this one is then dropped.
        """
        limit = self.budget.reward_calls
        if limit is not None:
            if limit - self._spent["reward_calls"] <= num_open_before(self._outside):
                await wait_for_turn(self._outside)
            if self._spent["reward_calls"] >= limit:
                await self.expire()
        self.count(reward_calls=1)

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """Marks a call of the reward as open while the block runs."""
        self._calls.number += 1
        try:
            yield
        finally:
            self._calls.number -= 1
            self._calls.ended.set()

    def count_cost(self, *values: float) -> None:
        """Counts the tokens of rewards that report them (`Scored`)."""
        for value in values:
            if isinstance(value, Scored):
                self.count(reward_tokens=value.tokens, reward_cached_tokens=value.cached_tokens)

    async def expire(self) -> NoReturn:
        """Ends the run by letting its deadline expire, which cancels everything that is open.

        First it waits until all earlier attempts of the same round were looked at
        (`rsalign.core.tasks.wait_for_turn`): if one of them is accepted, this attempt was not
        needed, and the run goes on. Then it waits for open calls of the reward, which are already
        paid for.
        """
        await wait_for_turn(self._outside)
        while self._calls.number:
            self._calls.ended.clear()
            await self._calls.ended.wait()
        loop = asyncio.get_running_loop()
        if not self.deadline.expired():  # unless another draw or the clock did it already
            self.deadline.reschedule(loop.time())
        await loop.create_future()  # never done: the deadline cancels this wait
        raise AssertionError("unreachable")

    def seen(self, candidate: Candidate) -> None:
        """Remembers a scored response, which is returned if the run ends early."""
        if candidate.response.complete and not candidate.excluded:
            self.finished.append(candidate)

    def seen_unjudged(self, response: Response) -> None:
        """Remembers a response before the reward is called for it."""
        if response.complete:
            self.unjudged.append(response)
        self.seen_partial(response.tokens)

    def seen_partial(self, tokens: Tokens) -> None:
        """Remembers tokens of a response that could not be scored, if they are the most so far."""
        if len(tokens) > len(self.partial):
            self.partial = tokens

    def best_finished(self, committed: Tokens) -> Candidate | None:
        """Returns the scored response with the highest reward; of equal ones, the first by address.

        Args:
            committed: tokens that it must begin with.
        """
        candidates = [c for c in self.finished if c.tokens[: len(committed)] == committed]
        candidates.sort(key=lambda candidate: _order(candidate.response))
        # max() takes the first among equals
        return max(candidates, key=lambda candidate: candidate.reward, default=None)

    def first_unjudged(self, committed: Tokens) -> Response | None:
        """Returns the complete response with the first address, scored or not.

        Args:
            committed: tokens that it must begin with.
        """
        responses = [r for r in self.unjudged if r.tokens[: len(committed)] == committed]
        return min(responses, key=_order, default=None)


def _order(response: Response) -> tuple[tuple[bool, Label], ...]:
    """Sorts responses by address, so that the choice does not depend on which draw was faster."""
    return tuple((isinstance(label, str), label) for label in response.address)
