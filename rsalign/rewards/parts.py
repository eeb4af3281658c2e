"""What all rewards that are made of rewards share: how parts are asked, closed, named, refused."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from typing import Any, cast

from rsalign.errors import ConfigError, RewardError
from rsalign.fingerprint import fingerprint
from rsalign.protocols import Reward, Scored
from rsalign.tasks import concurrently
from rsalign.types import Prompt, Response


class Composite:
    """Base of frozen dataclasses whose fields are rewards and settings, or tuples of them."""

    __slots__ = ()

    @property
    def fingerprint(self) -> str:
        """Tells this reward from others in a journal: its parts' fingerprints and its settings."""
        return f"{type(self).__name__}{described(self._values())}"

    def close(self) -> None:
        """Closes the parts."""
        close_all(_leaves(self._values()))

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, field.name) for field in fields(cast(Any, self)))


async def ask(reward: Reward, prompt: Prompt, response: Response) -> Scored:
    """What one part says, with its cost.

    Checked here although a run checks the whole: a cap or a sigmoid would hide an infinity, and the
    error should name the part.

    Raises:
        RewardError: if it is not a finite number.
    """
    value = await reward.score(prompt, response)
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise RewardError(
            f"the reward of {response.text!r} by {type(reward).__name__} is {value!r}, but must be "
            "a finite number: mend it, or map such values before they are returned",
            prompt=prompt,
            response=response,
        )
    return scored(value)


def scored(value: float) -> Scored:
    """A value with its cost, 0 where it is not known."""
    return value if isinstance(value, Scored) else Scored(value)


async def ask_all(rewards: Iterable[Reward], prompt: Prompt, response: Response) -> list[Scored]:
    """What all parts say, asked at once, ``(rewards,)``."""
    return await concurrently(ask(reward, prompt, response) for reward in rewards)


def combined(value: float, parts: Iterable[Scored]) -> Scored:
    """A value with what its parts cost together."""
    tokens = cached_tokens = 0
    for part in parts:
        tokens += part.tokens
        cached_tokens += part.cached_tokens
    return Scored(value, tokens=tokens, cached_tokens=cached_tokens)


def close_all(parts: Iterable[object]) -> None:
    """Closes what can be closed; every part, even if one of them fails."""
    with ExitStack() as stack:
        for part in parts:
            close = getattr(part, "close", None)
            if close is not None:
                stack.callback(close)


def described(value: object) -> str:
    """Settings as they are, parts by their fingerprints, and tuples of both.

    Raises:
        ConfigError: if a part has no fingerprint.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(described, value))})"
    if type(value) in (float, int):
        return repr(float(cast(float, value)))  # 1 and 1.0 are one setting
    return repr(value) if value is None or type(value) in (str, bool) else fingerprint(value)


def require_rewards(owner: object, *parts: object) -> None:
    """Refuses what is no reward.

    Raises:
        ConfigError: if there is none at all, or one has no method `score`.
    """
    name = type(owner).__name__
    if not parts:
        raise ConfigError(f"{name} has no rewards to combine: give at least 1")
    for part in parts:
        if not isinstance(part, Reward):
            raise ConfigError(
                f"{name} was given {part!r}, which is no reward: give an object with score (for a "
                "function: FunctionReward(function))"
            )


def require_finite(owner: object, **settings: float) -> None:
    """Refuses settings that are not finite numbers.

    Raises:
        ConfigError: if one is not.
    """
    for name, value in settings.items():
        if not isinstance(value, float | int) or not math.isfinite(value):
            raise ConfigError(f"{type(owner).__name__}({name}={value!r}): must be a finite number")


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
