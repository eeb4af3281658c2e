"""Shared by all rewards that wrap or combine others: calling, closing and identifying the parts."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any, cast

from rsalign.core.capabilities import component_name, excludes
from rsalign.core.checks import finite_or_none, finite_reward, part, quote, setting_error
from rsalign.core.errors import RewardError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.protocols import Reward, Scored, StepReward, innermost
from rsalign.core.tasks import concurrently
from rsalign.core.types import Prompt, Response


class Composite:
    """Base of frozen dataclasses whose fields are rewards, settings, or tuples of them."""

    __slots__ = ()

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal: its parts' fingerprints and its settings."""
        return f"{type(self).__name__}{describe(self._values())}"

    @property
    def excludes(self) -> bool:
        """Whether one of the parts may exclude a response (`rsalign.core.capabilities`)."""
        return any(map(excludes, _leaves(self._values())))

    def close(self) -> None:
        """Closes the parts."""
        close_all(_leaves(self._values()))

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, field.name) for field in fields(cast(Any, self)))


async def ask(reward: Reward, prompt: Prompt, response: Response) -> Scored:
    """The score of one part, with its token cost.

    The value is checked here although a run checks the combined value, too: a cap or a sigmoid
    would hide an infinity, and the error message should name the part.

    Raises:
        RewardError: if the score is not a finite number.
    """
    value = finite_reward(await reward.score(prompt, response), reward, prompt, response)
    return value if isinstance(value, Scored) else Scored(value)


async def ask_all(rewards: Iterable[Reward], prompt: Prompt, response: Response) -> list[Scored]:
    """The scores of all parts, requested concurrently, ``(rewards,)``."""
    return await concurrently(ask(reward, prompt, response) for reward in rewards)


async def ask_steps(
    reward: StepReward, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[Scored, ...]:
    """The values of a step reward, with their token costs, ``(steps,)``.

    Raises:
        RewardError: if it does not return one finite number per step.
    """
    values = tuple(await reward.score_steps(prompt, response, ends))
    found = [value for value in map(finite_or_none, values) if value is not None]
    if not len(found) == len(values) == len(ends):
        raise RewardError(
            f"{type(reward).__name__} gave {quote(values)} for {len(ends)} steps of "
            f"{quote(response.text)}, but must give one finite number per step: mend it",
            prompt=prompt,
            response=response,
        )
    return tuple(value if isinstance(value, Scored) else Scored(value) for value in found)


def combined(value: float, parts: Iterable[Scored], names: Sequence[str] = ()) -> Scored:
    """A value that was computed from parts: with their token costs, components and exclusions.

    The response is excluded if it is for one of the parts.

    Args:
        value: the value.
        parts: what it was computed from.
        names: of the parts, if they are components of the value; their own components are then
            named ``part.component``.
    """
    tokens = cached_tokens = 0
    components: dict[str, float] = {}
    excluded = False
    for i, one in enumerate(parts):
        tokens += one.tokens
        cached_tokens += one.cached_tokens
        excluded = excluded or one.excluded
        if names:
            components[names[i]] = float(one)
            components |= {f"{names[i]}.{name}": number for name, number in one.parts.items()}
        else:
            components |= one.parts
    return Scored(
        value, tokens=tokens, cached_tokens=cached_tokens, parts=components, excluded=excluded
    )


def component_names(rewards: Sequence[object]) -> list[str]:
    """Names of the components of a combined reward, one for each of its parts.

    Each is what the part is called (`component_name`); equal names are numbered.

    Example:
        >>> from rsalign import FunctionReward
        >>> from rsalign.testing import ToyReward
        >>> component_names([ToyReward(), FunctionReward(len), ToyReward()])
        ['toy_1', 'len', 'toy_2']
    """
    bases = [component_name(innermost(reward)) for reward in rewards]
    seen: Counter[str] = Counter()
    names = []
    for base in bases:
        seen[base] += 1
        names.append(base if bases.count(base) == 1 else f"{base}_{seen[base]}")
    return names


def log_sigmoid(value: float) -> float:
    """``ln(1 / (1 + exp(-value)))``, nats, without overflow.

    Example:
        >>> log_sigmoid(-1000.0)
        -1000.0
    """
    return min(value, 0.0) - math.log1p(math.exp(-abs(value)))


def close_all(parts: Iterable[object]) -> None:
    """Calls `close` of every part that has it, even if one of them raises an error."""
    with ExitStack() as stack:
        for one in parts:
            close = getattr(one, "close", None)
            if close is not None:
                stack.callback(close)


def describe(value: object) -> str:
    """Text that identifies a value: a setting by its repr, a part by its fingerprint.

    Tuples are described element by element.

    Raises:
        ConfigError: if a part has no fingerprint.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(describe, value))})"
    if type(value) in (float, int):
        return repr(float(cast(float, value)))  # 1 and 1.0 are the same setting
    return repr(value) if value is None or type(value) in (str, bool) else fingerprint(value)


A_REWARD = part("a reward: an object with `score` (for a function: FunctionReward(function))")
"""How error messages name a setting that must be a `Reward`."""
A_STEP_REWARD = part("a step reward: an object with `score_steps`")
"""How error messages name a setting that must be a `StepReward`."""


def require_some(owner: object, name: str, parts: Sequence[object]) -> None:
    """Refuses an empty list of parts.

    Raises:
        ConfigError: if there is no part.
    """
    if not parts:
        raise setting_error(owner, name, "at least 1 reward: there is nothing to combine")


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
