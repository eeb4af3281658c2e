"""The settings of a server, from flags (`rsalign serve`) or from JSON (the plug-in)."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from rsalign.core.budget import Budget
from rsalign.core.capabilities import missing_setting
from rsalign.core.checks import above, at_least, check_settings
from rsalign.core.errors import ConfigError, EngineError
from rsalign.core.parts import check_part_names
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.serve.admission import Admission
from rsalign.serve.draw_window import DrawWindow
from rsalign.serve.guarded_reward import GuardedReward
from rsalign.serve.rules import RequestRules
from rsalign.words.messages import clip, show, suggest
from rsalign.words.named_parts import StartedParts, read_part_words, start_parts
from rsalign.words.parts import is_none, reward_from
from rsalign.words.read import read_words
from rsalign.words.request import refuse_lengths

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings of a server that are no flags of ``vllm serve``.

    Attributes:
        reward: whatever `rsalign.words.parts.reward_from` takes, such as a model id or path, the
            address of a vLLM pooling server, ``module:name`` of a reward or a function
            ``(prompt_text, response_text) -> float``, or a class of rewards by name (also an
            object, ``{"name": "density_ratio", ...}``); None: there is none.
        reward_args: for the reward's engine, the connection, `FunctionReward` or the class.
        parts: further models and judges by name, as `rsalign.words.named_parts.start_parts` takes
            them, which strategies of requests may need; a request cannot name any other.
        strategy: of requests that name none: a name, or ``module:name`` of a class or an instance;
            None leaves them to vLLM.
        settings: its parameters; ``max_tokens`` bounds its responses beside what requests say, and
            ``budget.*`` and ``on_reward_error`` are those of each request.
        max_policy_tokens: drawn for one request, discarded ones included.
        max_reward_calls: for one request.
        max_seconds: for one request.
        max_concurrent_requests: what may be under way at once; a request counts as many as it can
            have draws open at once, and at least as many as it asks for answers. None is no limit.
        max_waiting_requests: requests that wait for room; more are refused.
        max_wait_seconds: longest time that one waits.
        max_open_draws: draws of strategies that the engine has open at once, shared fairly among
            requests; None: half of what it computes at once.
        max_open_draws_beside: the same while requests that draw once are answered; None: a
            32nd of what the engine computes at once.
        max_strategy_size: see `RequestRules.max_size`.
        reward_timeout_seconds: of one call; then the reward counts as failed. None is no limit.
        on_reward_error: ``"fail"`` answers with status 503, ``"best"`` with the best answer so far,
            ``"plain"`` with a plain draw and a warning, if nothing has been sent yet.
        wait_for_reward_seconds: how long a start waits for a reward server that does not answer.
        drain_seconds: what open requests have to end in when the server is told to stop.
        keep_alive_seconds: longest silence of a stream.

    Raises:
        ConfigError: if a setting cannot work.

    Example:
        >>> options = Options(reward="embedded", strategy="best_of", settings={"n": 4})
        >>> options.request_rules().default.n
        4
    """

    reward: str | Mapping[str, Any] | None = None
    reward_args: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    strategy: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_policy_tokens: int | None = None
    max_reward_calls: int | None = None
    max_seconds: float | None = None
    max_concurrent_requests: int | None = 512
    max_waiting_requests: int = 64
    max_wait_seconds: float = 30.0
    max_open_draws: int | None = None
    max_open_draws_beside: int | None = None
    max_strategy_size: int = 1024
    reward_timeout_seconds: float | None = 60.0
    on_reward_error: Literal["fail", "best", "plain"] = "fail"
    wait_for_reward_seconds: float = 0.0
    drain_seconds: float = 10.0
    keep_alive_seconds: float = 15.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            max_policy_tokens=at_least(1),
            max_reward_calls=at_least(1),
            max_seconds=above(0.0),
            max_concurrent_requests=at_least(1),
            max_waiting_requests=at_least(0),
            max_wait_seconds=at_least(0.0),
            max_open_draws=at_least(1),
            max_open_draws_beside=at_least(1),
            max_strategy_size=at_least(1),
            reward_timeout_seconds=above(0.0),
            keep_alive_seconds=above(0.0),
            wait_for_reward_seconds=at_least(0.0),
            drain_seconds=at_least(0.0),
        )
        if self.settings and self.strategy is None:
            raise ConfigError("settings are given, but no strategy that they could belong to")
        object.__setattr__(self, "parts", read_part_words(self.parts))
        self.request_rules()

    @classmethod
    def from_json(cls, text: str) -> "Options":
        """Options as one JSON object, such as ``{"reward": "...", "strategy": "best_of"}``.

        Raises:
            ConfigError: if it is none, or has a name that is not an attribute.
        """
        try:
            given = json.loads(text)
        except json.JSONDecodeError as wrong:
            raise ConfigError(f"the options of the server are not JSON: {wrong}") from wrong
        known = [each.name for each in fields(cls)]
        if not isinstance(given, dict):
            raise ConfigError(f"the options of the server are {show(given)}: give an object")
        for name in given:
            if name not in known:
                raise ConfigError(f"there is no option {clip(name, 80)!r}{suggest(name, known)}")
        return cls(**given)

    def request_rules(self) -> RequestRules:
        """The rules for the requests to the server.

        Raises:
            ConfigError: if the strategy, its settings or the budget cannot work.
        """
        asked = read_words(self.strategy, self.settings)
        if asked.seed is not None:
            raise ConfigError("seed: each request has its own (its field seed), and a server none")
        default: Strategy | None = None
        if self.strategy is not None:
            default = asked.strategy()
            check_part_names(default, self.parts)
            refuse_lengths(default, asked.settings)
            if missing := missing_setting(default):
                raise ConfigError(
                    f"the server's strategy could answer no request that names none: {missing}"
                )
        return RequestRules(
            default=default,
            default_name=self.strategy or "",
            default_max_tokens=asked.max_tokens,
            has_reward=not is_none(self.reward),
            parts=tuple(self.parts),
            budget=self._budget(asked.budget),
            on_reward_error=asked.on_reward_error
            or ("best" if self.on_reward_error == "best" else "fail"),
            max_size=self.max_strategy_size,
        )

    def _budget(self, given: Mapping[str, Any]) -> Budget:
        """The limits of each request, whether given as options or among the settings."""
        limits = {
            "policy_tokens": self.max_policy_tokens,
            "reward_calls": self.max_reward_calls,
            "seconds": self.max_seconds,
        }
        for name, value in given.items():
            if limits.get(name) not in (None, value):
                raise ConfigError(
                    f"budget.{name}={show(value)} contradicts max_{name}={show(limits[name])}: "
                    "give one of them"
                )
        return Budget(**(limits | {**given}))

    def admission(self) -> Admission:
        """Makes room for requests, up to `max_concurrent_requests`."""
        return Admission(
            self.max_concurrent_requests,
            max_waiting=self.max_waiting_requests,
            max_wait_seconds=self.max_wait_seconds,
        )

    def window(self) -> DrawWindow:
        """Shares the engine's places for draws among requests."""
        return DrawWindow(self.max_open_draws, self.max_open_draws_beside)

    def start_reward(self, policy: Callable[[], Any] | None = None) -> GuardedReward | None:
        """The reward, started if it is a model; None if there is none.

        Args:
            policy: returns the served policy; called only if the reward needs it.

        Raises:
            ConfigError: if it cannot be started.
        """
        if is_none(self.reward):
            return None
        deadline = time.monotonic() + self.wait_for_reward_seconds
        while True:
            try:
                made: Reward | None = reward_from(self.reward, self.reward_args, policy)
            except EngineError as error:
                if time.monotonic() >= deadline:
                    raise
                logger.info("waiting for the reward: %s", error)
                time.sleep(_LOOK_SECONDS)
            else:
                assert made is not None
                return GuardedReward(made, self.reward_timeout_seconds)

    def start_parts(self, policy: Callable[[], Any] | None = None) -> StartedParts:
        """The named parts, started if they are models; rewards and judges within the time limit.

        Args:
            policy: returns the served policy; called only if a part needs it.

        Raises:
            ConfigError: if one cannot be started.
        """
        started = start_parts(self.parts, self.request_rules().default, policy)
        seconds = self.reward_timeout_seconds
        guarded = {
            name: part if isinstance(part, Policy) else GuardedReward(part, seconds)
            for name, part in started.parts.items()
        }
        return StartedParts(guarded, started.opened)
