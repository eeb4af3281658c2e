"""The rules of a server: what requests may ask for, and how much it takes on at once.

A request can say the same in three ways: an object ``"rsalign": {"strategy": "best_of", "n": 8}``
in its body, flat keys ``rsalign=best_of, rsalign_n=8`` in `extra_args` (``vllm_xargs`` in the
body), and a model called ``NAME:best_of``. `rsalign.words` reads all three. Requests name
strategies and their parts as the registries do; they cannot name code, paths or models.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from rsalign.core.budget import Budget
from rsalign.core.capabilities import needs_reward
from rsalign.core.errors import ConfigError
from rsalign.core.parts import needed_parts
from rsalign.core.protocols import Strategy
from rsalign.strategies import STRATEGIES
from rsalign.words.messages import clip, show, suggest
from rsalign.words.read import NO_STRATEGY, STRATEGY, OnRewardError, Specification
from rsalign.words.request import requested


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyRequest:
    """What one request asks for, checked against the rules.

    Attributes:
        name: the strategy's name in the registry, or the server's own name for its default.
        strategy: with its settings; the limit of the answer's length is not applied yet.
        max_tokens: greatest length of an answer, besides the request's own field; None: no other.
        budget: of the request as a whole.
        has_own_budget: whether the request itself gave a limit.
        on_reward_error: what a reward that fails does.
        seed: root of the randomness; None: that of the request's own field, if any.

    Example:
        >>> RequestRules().read(Specification(name="plain")).strategy.max_tokens
        256
    """

    name: str
    strategy: Strategy
    max_tokens: int | None = None
    budget: Budget = field(default_factory=Budget)
    has_own_budget: bool = False
    on_reward_error: OnRewardError = "fail"
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """What requests to one server may ask for.

    Attributes:
        default: the strategy of requests that name none; None: the engine's own sampling.
        default_name: its name.
        default_max_tokens: greatest length of the default's answers; None: only requests limit it.
        has_reward: whether the server has a reward.
        parts: the names of the server's further models and judges.
        budget: of each request; a request may ask for less.
        on_reward_error: unless a request says otherwise.
        max_size: greatest product of the whole-number settings of a request's strategy and of
            the strategies inside it: how many draws it can start at once.

    Example:
        >>> rules = RequestRules(has_reward=True)
        >>> rules.read(Specification(name="best_of", settings={"n": 8})).strategy.n
        8
    """

    default: Strategy | None = None
    default_name: str = ""
    default_max_tokens: int | None = None
    has_reward: bool = False
    parts: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    on_reward_error: OnRewardError = "fail"
    max_size: int = 1024

    @property
    def hint(self) -> str:
        """Ends a refusal: the client may not know that the server has a default strategy."""
        if self.default is None:
            return ""
        return f'; for the engine\'s own sampling give {STRATEGY}: "{NO_STRATEGY}"'

    def read(self, asked: Specification | None) -> StrategyRequest | None:
        """Checks what a request asks for.

        Args:
            asked: what the request says; None: nothing.

        Returns:
            None if the engine itself is to answer.

        Raises:
            ConfigError: if it asks for an unknown strategy or setting, for a value of the wrong
                type or out of range, or for more than the server allows.
        """
        asked = asked or Specification()
        is_default = asked.name in (None, self.default_name)
        if self.default is not None and asked.name == self.default_name:
            asked = replace(asked, name=None)  # it may be one that no request could name
        strategy = self._make_strategy(asked)
        if strategy is None:
            return None
        return StrategyRequest(
            name=asked.name or self.default_name,
            strategy=strategy,
            max_tokens=_smaller(asked.max_tokens, self.default_max_tokens if is_default else None),
            budget=self._limit_budget(asked),
            has_own_budget=any(limit is not None for limit in asked.budget.values()),
            on_reward_error=asked.on_reward_error or self.on_reward_error,
            seed=asked.seed,
        )

    def aliases(self) -> Iterator[str]:
        """Names of the strategies that can be asked for without any setting."""
        for name in STRATEGIES:
            try:
                self._make_strategy(Specification(name=name))
            except ConfigError:
                continue
            yield name

    def _make_strategy(self, asked: Specification) -> Strategy | None:
        strategy = requested(asked, self.default)
        if strategy is None:
            return None
        size = math.prod(_list_sizes(strategy))
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
        if missing := [name for name in needed_parts(strategy) if name not in self.parts]:
            raise ConfigError(
                f"{asked.name or self.default_name} needs the part {show(missing[0])}, and this "
                f"server has {', '.join(self.parts) or 'none'}: start it with --part "
                f"{clip(missing[0], 80)}=..., or name one that it has"
            )
        return strategy

    def _limit_budget(self, asked: Specification) -> Budget:
        for part, given in asked.budget.get("parts", {}).items():
            if part not in self.parts:
                raise ConfigError(
                    f"budget.parts.{clip(part, 80)}: this server has no such part"
                    f"{suggest(part, self.parts)}"
                )
            own = self.budget.parts.get(part, Budget())
            for name, value in given.items():
                most = getattr(own, name) or math.inf
                if value is not None and value > most:
                    raise ConfigError(
                        f"budget.parts.{part}.{name}={show(value)}: this server allows {most} for "
                        "a request"
                    )
        for name, value in asked.budget.items():
            if name == "parts":
                continue
            most = getattr(self.budget, name) or math.inf  # 0: no tokens for a completion
            if value is not None and value > most:
                raise ConfigError(
                    f"budget.{name}={show(value)}: this server allows {most} for a request"
                )
        return asked.within(self.budget)


def split_budget(budget: Budget, answers: int) -> Budget:
    """The budget of each of so many answers to a request.

    Raises:
        ConfigError: if it is not enough for one token, or one reward, each.
    """
    if answers == 1:
        return budget
    shares: dict[str, Any] = {
        "parts": {name: split_budget(part, answers) for name, part in budget.parts.items()}
    }
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


def _smaller(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given, default=None)


def _list_sizes(strategy: Any) -> Iterator[int]:
    """The whole numbers among a strategy's settings, and those of the strategies inside it."""
    for each in fields(strategy):
        value = getattr(strategy, each.name)
        if is_dataclass(value) and hasattr(value, "sample"):
            yield from _list_sizes(value)
        elif isinstance(value, list | tuple):  # such as a ladder of replicas
            yield len(value) + 1
        elif each.name != "max_tokens" and type(value) is int and value >= 1:
            yield value
