"""What a request asks for, however it is written, and what a server lets it ask for.

Three ways say the same: an object ``"rsalign": {"strategy": "best_of", "n": 8}`` in the body, flat
keys ``rsalign=best_of, rsalign_n=8`` in `extra_args` (``vllm_xargs`` in the body), and a model
called ``NAME:best_of``. A dotted key reaches into a part, as on the command line:
``rsalign_threshold.target``. Requests name strategies and their parts as the registries do; they
cannot name code, paths or models.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from rsalign.align import Result, needs_reward
from rsalign.aligner.request_strategy import NO_STRATEGY, STRATEGY
from rsalign.aligner.settings import build_strategy, suggest
from rsalign.budget import Budget
from rsalign.checks import at_least, checked
from rsalign.errors import ConfigError
from rsalign.hooks.guidance import is_guidance
from rsalign.hooks.request import KEYS, known_keys
from rsalign.protocols import Strategy
from rsalign.strategies import STRATEGIES
from rsalign.trace import Progress
from rsalign.types import Message

_PARAMETER = "rsalign_"
_LIMITS = ("policy_tokens", "reward_calls", "seconds")
_MOST_LEVELS = 8  # of an object in the body


@dataclass(slots=True)
class Ledger:
    """What becomes of a request, for whoever answers it over HTTP.

    Attributes:
        expected: number of answers, all prompts together; known once all have been asked for.
        results: answers that are complete, each with its place among the choices.
        failure: why there will be no more.
        watched: whether someone looks for `failure` when a stream ends before it has begun.
        streamed: whether anything was certain before its answer was complete.
        progress: where a strategy that decides at the end stands.
        seconds: from the first call to the last answer.
        seed: root of all randomness; known once the first prompt has been asked for.
    """

    expected: int = 0
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
        messages: the conversation, for the reward; None: there is only the prompt's text.
        num_prompts: how many prompts share the budget.
        ledger: what becomes of it.
    """

    name: str
    strategy: Strategy
    max_tokens: int | None = None
    budget: Budget = field(default_factory=Budget)
    has_own_budget: bool = False
    on_reward_error: Literal["fail", "best"] = "fail"
    messages: tuple[Message, ...] | None = field(default=None, repr=False)
    num_prompts: int = 1
    ledger: Ledger = field(default_factory=Ledger, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of a request, unchecked.

    Attributes:
        name: of a strategy; None: the server's own.
        settings: by dotted name.
    """

    name: str | None
    settings: Mapping[str, Any]


def asked_in(extra_args: Mapping[str, Any] | None) -> Asked | None:
    """What flat keys ask for; None if there are none. Numbers may come as text.

    Raises:
        ConfigError: if the strategy's name is not a string.
    """
    ours = {key: value for key, value in (extra_args or {}).items() if _is_ours(key)}
    if not ours:
        return None
    name = ours.pop(STRATEGY, None)
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"rsalign={name!r}: give the name of a strategy{suggest('', names())}")
    settings = {key.removeprefix(_PARAMETER): _number(value) for key, value in ours.items()}
    return Asked(name, settings)


def asked_by(body: Any) -> Asked:
    """What an object (or a mere name) in the body asks for.

    Raises:
        ConfigError: if it is neither, or names a part in a way that is not understood.
    """
    if isinstance(body, str):
        return Asked(body, {})
    if not isinstance(body, Mapping):
        raise ConfigError(
            f"rsalign={body!r}: give a strategy's name, or an object with 'strategy' and its "
            "parameters"
        )
    settings = dict(body)
    name = settings.pop("strategy", None)
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"strategy={name!r}: give a name{suggest('', names())}")
    return Asked(name, dict(_dotted(settings)))


def others(extra_args: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are not a strategy's: weights of guides, and what we do not know."""
    return {key: value for key, value in extra_args.items() if not _is_ours(key)}


def names() -> tuple[str, ...]:
    """What can be asked for by name."""
    return (*STRATEGIES, NO_STRATEGY)


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
    on_reward_error: Literal["fail", "best"] = "fail"
    max_size: int = 4096

    def order(self, asked: Asked | None) -> Wanted | None:
        """What is to be done; None: leave the request to the engine.

        Raises:
            ConfigError: if it cannot be had: an unknown name or parameter, a value of the wrong
                type or out of range, too much of anything.
        """
        asked = asked or Asked(None, {})
        if asked.name is None and self.default is None:
            _refuse_parameters(asked.settings)
        if asked.name == NO_STRATEGY or (asked.name is None and self.default is None):
            return None  # settings, if any, are those of logits processors in the engine
        settings = dict(asked.settings)
        for key in settings:
            if key.count(".") >= _MOST_LEVELS:
                raise ConfigError(f"{key[:80]}: parts are nested {_MOST_LEVELS} deep at most")
        limits = {name: settings.pop(f"budget.{name}", None) for name in _LIMITS}
        on_reward_error = settings.pop("on_reward_error", self.on_reward_error)
        if on_reward_error not in ("fail", "best"):
            raise ConfigError(f"on_reward_error={on_reward_error!r}: choose 'fail' or 'best'")
        is_default = asked.name in (None, self.default_name)
        max_tokens = settings.pop("max_tokens", None)
        checked("rsalign", "max_tokens", max_tokens, int | None, at_least(1))
        return Wanted(
            name=asked.name or self.default_name,
            strategy=self._strategy(asked.name, settings),
            max_tokens=_least(max_tokens, self.default_max_tokens if is_default else None),
            budget=self._budget(limits),
            has_own_budget=any(limit is not None for limit in limits.values()),
            on_reward_error=on_reward_error,
        )

    def aliases(self) -> Iterator[str]:
        """Names of strategies that can be asked for without any parameter."""
        for name in STRATEGIES:
            try:
                self._strategy(name, {})
            except ConfigError:
                continue
            yield name

    def _strategy(self, name: str | None, settings: Mapping[str, Any]) -> Strategy:
        if name == self.default_name:
            name = None  # it may be one that no request could name
        if name is None and not settings:
            assert self.default is not None
            strategy = self.default
        else:
            strategy = build_strategy(name, settings, default=self.default, own_classes=False)
            self._check(strategy, settings)
        if needs_reward(strategy) and not self.has_reward:
            raise ConfigError(
                f"{name or self.default_name} needs a reward, and this server has none: start it "
                "with --reward, or ask for 'plain'"
            )
        return strategy

    def _check(self, strategy: Strategy, settings: Mapping[str, Any]) -> None:
        """Refuses what the types of the parameters allow, and a server cannot."""
        refuse_lengths(strategy, settings)
        size = math.prod(_numbers(strategy))
        if size > self.max_size:
            raise ConfigError(
                f"the whole-number parameters of {type(strategy).__name__}, and of what is inside "
                f"it, multiply to {size}, but a request may ask for {self.max_size} at most: "
                "lower them, or raise --max-strategy-size"
            )

    def _budget(self, limits: Mapping[str, Any]) -> Budget:
        asked = {name: value for name, value in limits.items() if value is not None}
        for name, value in asked.items():
            most = getattr(self.budget, name)
            if most is not None and isinstance(value, int | float) and value > most:
                raise ConfigError(
                    f"budget.{name}={value!r}: this server allows {most} for a request"
                )
        return replace(self.budget, **asked)


def _refuse_parameters(settings: Mapping[str, Any]) -> None:
    """Refuses what is for a strategy where there is none.

    Raises:
        ConfigError: naming the setting.
    """
    for key in settings:
        if f"{_PARAMETER}{key}" not in KEYS:
            raise ConfigError(
                f"the request gives {key}, but names no strategy, and this server has no default: "
                f"name a strategy{suggest('', names())}; without one there are only {known_keys()}"
            )


def refuse_lengths(strategy: Strategy, settings: Mapping[str, Any]) -> None:
    """Refuses bounds of responses inside a strategy: those of the request would replace them.

    Raises:
        ConfigError: naming the setting.
    """
    for key in settings:
        *path, last = key.split(".")
        owner: Any = strategy
        for part in path:
            owner = getattr(owner, part, None)
        if last == "max_tokens" and hasattr(owner, "sample"):
            raise ConfigError(
                f"{key}: the length of a response is bounded as a whole; give max_tokens"
            )


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


def _is_ours(key: str) -> bool:
    return key == STRATEGY or (key.startswith(_PARAMETER) and not is_guidance(key))


def _number(value: Any) -> Any:
    """A number that came as text, as some clients send it."""
    for kind in (int, float) if isinstance(value, str) else ():
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def _least(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given, default=None)


def _dotted(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested objects as dotted names; in a part's own object ``"name"`` says which it is."""
    for key, value in settings.items():
        name = path if path and key == "name" else f"{path}.{key}".lstrip(".")
        if not isinstance(value, Mapping):
            yield name, value
        elif name == path or name.count(".") >= _MOST_LEVELS:
            raise ConfigError(f"rsalign.{name}: give the name of a part as text")
        else:
            yield from _dotted(value, name)


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
