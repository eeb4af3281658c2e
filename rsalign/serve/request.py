"""What a server lets a request ask for: limits over what `rsalign.words` has read.

Three ways say the same: an object ``"rsalign": {"strategy": "best_of", "n": 8}`` in the body, flat
keys ``rsalign=best_of, rsalign_n=8`` in `extra_args` (``vllm_xargs`` in the body), and a model
called ``NAME:best_of``. Requests name strategies and their parts as the registries do; they cannot
name code, paths or models.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from rsalign.core.align import Result
from rsalign.core.budget import Budget
from rsalign.core.capabilities import needs_reward
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.core.trace import Progress
from rsalign.core.types import Message
from rsalign.strategies import STRATEGIES
from rsalign.words.messages import show
from rsalign.words.read import NO_STRATEGY, STRATEGY, OnRewardError, Specification
from rsalign.words.request import requested


@dataclass(slots=True)
class Ledger:
    """What becomes of a request, for whoever answers it over HTTP.

    Attributes:
        num_prompts: number of prompts that have been asked for.
        expected: number of answers, all prompts together; known once all have been asked for.
        num_ended: answers that are under way no more.
        has_tokens: whether any of these has a token.
        results: answers that are complete, each with its place among the choices.
        failure: why there will be no more.
        watched: whether someone looks for `failure` when a stream ends before it has begun.
        streamed: whether anything was certain before its answer was complete.
        progress: where a strategy that decides at the end stands.
        seconds: from the first call to the last answer.
        seed: root of all randomness; known once the first prompt has been asked for.
    """

    num_prompts: int = 0
    expected: int = 0
    num_ended: int = 0
    has_tokens: bool = False
    results: dict[int, Result] = field(default_factory=dict)
    failure: Exception | None = None
    watched: bool = False
    streamed: bool = False
    progress: Progress | None = None
    seconds: float = 0.0
    seed: int | None = None

    @property
    def complete(self) -> bool:
        """Whether all answers are there."""
        return 0 < self.expected == len(self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A strategy for one request, checked.

    vLLM logs the parameters of a request, in which this travels: its text says nothing of what the
    client wrote or was answered.

    Attributes:
        name: the strategy's name in the registry, or the class of one that is not there.
        strategy: with its hyperparameters; its length is yet to be bounded.
        max_tokens: bounds the whole response, beside what the engine is asked for.
        budget: of the request as a whole.
        has_own_budget: whether the request itself asked for it.
        on_reward_error: ``"fail"``, or ``"best"`` for the best so far.
        seed: root of its randomness; None: that of the request's own field.
        conversations: of each prompt, in order, for the reward; where there is none, there is only
            the prompt's text.
        num_prompts: how many prompts share the budget.
        ledger: what becomes of it.
    """

    name: str
    strategy: Strategy
    max_tokens: int | None = None
    budget: Budget = field(default_factory=Budget)
    has_own_budget: bool = False
    on_reward_error: OnRewardError = "fail"
    seed: int | None = None
    conversations: list[tuple[Message, ...]] = field(default_factory=list, repr=False)
    num_prompts: int = 1
    ledger: Ledger = field(default_factory=Ledger, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """What requests to one server may ask for.

    Attributes:
        default: the strategy of requests that name none; None leaves them to the engine.
        default_name: its name.
        default_max_tokens: bounds the responses of the default; None: only requests do.
        has_reward: whether there is a reward.
        budget: of each request; a request may ask for less.
        on_reward_error: unless a request says otherwise.
        max_size: greatest product of the whole-number parameters that a request may set, all
            strategies of a nest together: what it can start at once.
    """

    default: Strategy | None = None
    default_name: str = ""
    default_max_tokens: int | None = None
    has_reward: bool = False
    budget: Budget = field(default_factory=Budget)
    on_reward_error: OnRewardError = "fail"
    max_size: int = 4096

    @property
    def way_out(self) -> str:
        """What to say to clients who are refused and may not have asked for a strategy."""
        if self.default is None:
            return ""
        return f'; for the engine\'s own sampling give {STRATEGY}: "{NO_STRATEGY}"'

    def order(self, asked: Specification | None) -> Wanted | None:
        """What is to be done; None: leave the request to the engine.

        Raises:
            ConfigError: if it cannot be had: an unknown name or parameter, a value of the wrong
                type or out of range, too much of anything.
        """
        asked = asked or Specification()
        is_default = asked.name in (None, self.default_name)
        if self.default is not None and asked.name == self.default_name:
            asked = replace(asked, name=None)  # it may be one that no request could name
        strategy = self._strategy(asked)
        if strategy is None:
            return None
        return Wanted(
            name=asked.name or self.default_name,
            strategy=strategy,
            max_tokens=_least(asked.max_tokens, self.default_max_tokens if is_default else None),
            budget=self._budget(asked),
            has_own_budget=any(limit is not None for limit in asked.budget.values()),
            on_reward_error=asked.on_reward_error or self.on_reward_error,
            seed=asked.seed,
        )

    def aliases(self) -> Iterator[str]:
        """Names of strategies that can be asked for without any parameter."""
        for name in STRATEGIES:
            try:
                self._strategy(Specification(name=name))
            except ConfigError:
                continue
            yield name

    def _strategy(self, asked: Specification) -> Strategy | None:
        strategy = requested(asked, self.default)
        if strategy is None:
            return None
        size = math.prod(_numbers(strategy))
        if strategy != self.default and size > self.max_size:
            raise ConfigError(
                f"the whole-number parameters of {type(strategy).__name__}, and of what is inside "
                f"it, multiply to {show(size)}, but a request may ask for {self.max_size} at most: "
                "lower them, or raise --max-strategy-size"
            )
        if needs_reward(strategy) and not self.has_reward:
            raise ConfigError(
                f"{asked.name or self.default_name} needs a reward, and this server has none: "
                "start it with --reward, or ask for 'plain'"
            )
        return strategy

    def _budget(self, asked: Specification) -> Budget:
        for name, value in asked.budget.items():
            most = getattr(self.budget, name) or math.inf  # 0: no tokens for a completion
            if value is not None and value > most:
                raise ConfigError(
                    f"budget.{name}={show(value)}: this server allows {most} for a request"
                )
        return asked.within(self.budget)


def share(budget: Budget, answers: int) -> Budget:
    """What each of so many answers may spend of a request's budget.

    Raises:
        ConfigError: if it is not enough for one token, or one reward, each.
    """
    if answers == 1:
        return budget
    shares: dict[str, int] = {}
    for name in ("policy_tokens", "reward_calls"):
        limit = getattr(budget, name)
        if limit is not None:
            shares[name] = limit // answers
            if not shares[name]:
                raise ConfigError(
                    f"{answers} answers have to share {limit} {name.replace('_', ' ')}, the "
                    "request's budget: ask for fewer (n, or prompts)"
                )
    return replace(budget, **shares)


def _least(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given, default=None)


def _numbers(strategy: Any) -> Iterator[int]:
    """The whole numbers that a strategy, and all inside it, may be multiplied by."""
    for each in fields(strategy):
        value = getattr(strategy, each.name)
        if is_dataclass(value) and hasattr(value, "sample"):
            yield from _numbers(value)
        elif isinstance(value, list | tuple):  # such as a ladder of replicas
            yield len(value) + 1
        elif each.name != "max_tokens" and type(value) is int and value >= 1:
            yield value
