"""Twists: positive values psi of prefixes, by which particles are weighed before they are complete.

A twist guides the particles and does not change what they estimate. A particle's weight grows by
psi(longer prefix) / psi(prefix) in each round, psi(nothing) = 1, and a complete answer has
psi(y) = w(y), the weight of the target. The product of all ratios is therefore w(y), whatever psi
is for prefixes; it may even be random, as long as the same value is divided by later. A twist near
psi(prefix) = E[w(y) | prefix] makes the weights least unequal.

Paper    Guarniero, Johansen and Lee 2017, arXiv:1511.06286; for language models Zhao et al. 2024,
         arXiv:2404.17546.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from rsalign.core.checks import at_least, check_settings, part
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.particle import log_mean_exp
from rsalign.segments.segmenters import MOST, FixedSize


@dataclass(frozen=True, slots=True)
class Target:
    """What the particles are to be draws from: pi(y) w(y) / Z on answers of bounded length.

    Attributes:
        log_weight: from a candidate to ln w; minus infinity excludes it.
        max_tokens: greatest length of a whole answer.
    """

    log_weight: Callable[[Candidate], float]
    max_tokens: int


@runtime_checkable
class Twist(Protocol):
    """A frozen dataclass that values prefixes.

    Laws: the value is finite, or minus infinity for a prefix that no allowed answer begins with.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Flat:  # all prefixes are worth the same
        ...     async def log_value(
        ...         self, prompt: Prompt, candidate: Candidate, target: Target, run: Run
        ...     ) -> float:
        ...         return 0.0
        >>> isinstance(Flat(), Twist)
        True
    """

    async def log_value(
        self, prompt: Prompt, candidate: Candidate, target: Target, run: Run
    ) -> float:
        """Returns ln psi of an open prefix, nats.

        Args:
            prompt: what is answered.
            candidate: the prefix, with its partial reward.
            target: what complete answers are weighed by.
            run: at an address that this call alone uses.
        """
        ...


TWIST = part("a twist, such as PartialReward() or LookAhead(rollouts=2)")
"""What a twist must be where it is a setting, for `check_settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialReward:
    """The weight that the prefix would have if it were complete, to a power.

    Attributes:
        scale: the power, at least 0. Below 1 a partial reward decides less than the whole; at 0 no
            particle is weighed before it is complete.

    Raises:
        ConfigError: if `scale` is not a finite number of at least 0.

    Example:
        >>> PartialReward(scale=0.5).draws
        0
    """

    scale: float = 1.0

    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_settings(self, scale=at_least(0.0))

    async def log_value(
        self, prompt: Prompt, candidate: Candidate, target: Target, run: Run
    ) -> float:
        """Asks nothing: the partial reward is known."""
        return self.scale * target.log_weight(candidate) if self.scale else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """The mean weight of a few continuations that are drawn for it and thrown away.

    With ``horizon=None`` it is an unbiased estimate of E[w(y) | prefix], the best twist there is,
    but for prefixes whose continuations are all excluded: these have a small value, and not 0.

    Attributes:
        rollouts: number of continuations of each prefix.
        horizon: greatest length of a continuation in tokens; None: until the answer is complete. A
            continuation that ends at the horizon is weighed by its partial reward.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> LookAhead(rollouts=4, horizon=32).draws
        4
    """

    rollouts: int = 1
    horizon: int | None = None

    def __post_init__(self) -> None:
        check_settings(self, rollouts=at_least(1), horizon=at_least(1, MOST))

    @property
    def draws(self) -> int:
        """Number of draws for each prefix, all at once."""
        return self.rollouts

    async def log_value(
        self, prompt: Prompt, candidate: Candidate, target: Target, run: Run
    ) -> float:
        """Draws the continuations at the addresses ``("ahead", i)``."""
        response = candidate.response
        ahead = await concurrently(
            run.at("ahead", i).draft(
                prompt,
                response.tokens,
                max_tokens=target.max_tokens,
                boundary=None if self.horizon is None else FixedSize(self.horizon),
                kept_log_probs=response.log_probs,
            )
            for i in range(self.rollouts)
        )
        log_value = log_mean_exp(
            [-math.inf if one.excluded else target.log_weight(one) for one in ahead]
        )
        if log_value == -math.inf:  # others may be allowed: as if they came next
            return target.log_weight(candidate) - math.log(self.rollouts + 1)
        return log_value


TWISTS = {"partial_reward": PartialReward, "look_ahead": LookAhead}
"""Twists by their names in settings; any other class is named as ``module:Class``."""
