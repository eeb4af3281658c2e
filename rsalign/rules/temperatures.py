"""How strongly to tilt, told by what the tilt does to a pool of the policy's own rewards.

>>> TargetKL(nats=0.5).beta((0.0, 1.0, 2.0, 3.0)) > TargetKL(nats=1.0).beta((0.0, 1.0, 2.0, 3.0))
True
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.checks import Allowed, above, check_settings, shown
from rsalign.errors import ConfigError
from rsalign.rules.estimators import effective_sample_size, tilted_weights

_ROUNDS = 60  # of bisection: then the interval is as narrow as float64 allows


@runtime_checkable
class BetaRule(Protocol):
    """Chooses beta for one prompt from the rewards of draws of the policy. A value."""

    def beta(self, rewards: Sequence[float]) -> float:
        """The beta of the target pi exp(r / beta), in the reward's units, above 0.

        Args:
            rewards: of independent draws, ``(draws,)``.

        Raises:
            ConfigError: if so many draws cannot tell.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKL:
    """The beta at which KL(target || policy), estimated on the pool, is so many nats.

    The estimate is ln n - H(w) with the self-normalised weights w of the pool: at most ln n, and
    trustworthy well below it only.

    Attributes:
        nats: above 0.

    Raises:
        ConfigError: if `nats` is not above 0; in `beta`, if the pool is too small for it.
    """

    nats: float

    def __post_init__(self) -> None:
        check_settings(self, nats=above(0.0))

    def beta(self, rewards: Sequence[float]) -> float:
        """By bisection; the KL falls as beta grows."""
        least = math.ceil(math.exp(self.nats)) + 1
        if len(rewards) < least:
            raise ConfigError(
                f"{self}: {len(rewards)} draws show at most {math.log(len(rewards)):.3g} nats; "
                f"draw a pool of at least {least}"
            )
        return _solved(rewards, lambda weights: _pool_kl(weights) > self.nats)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSampleSize:
    """The beta at which the pool's effective sample size is a share of its size.

    Attributes:
        share: of the pool, above 0 and below 1; 0.5 means that the tilted pool is worth half as
            many draws as it has.

    Raises:
        ConfigError: if `share` is out of its range; in `beta`, if the pool is too small for it.
    """

    share: float

    def __post_init__(self) -> None:
        check_settings(self, share=above(0.0, below=1.0))

    def beta(self, rewards: Sequence[float]) -> float:
        """By bisection; the size grows with beta."""
        size = self.share * len(rewards)
        if size <= 1:
            raise ConfigError(
                f"{self}: of {len(rewards)} draws that is {size:.3g}, and one is the least; draw a "
                f"pool of at least {math.floor(1 / self.share) + 1}"
            )
        return _solved(rewards, lambda weights: effective_sample_size(weights) < size)


def found_beta(beta: float | BetaRule, rewards: Sequence[float]) -> float:
    """The beta itself, or what its rule finds for these rewards.

    Raises:
        ConfigError: if the rule cannot tell from them.
    """
    if isinstance(beta, BetaRule):
        if not rewards:
            raise ConfigError(f"beta={beta!r} is found from a pool of draws: give a number here")
        return beta.beta(rewards)
    return beta


BETA = Allowed(
    low=0.0,
    excludes_low=True,
    words="a rule such as TargetKL(nats=1.0) of rsalign.rules.temperatures",
    note="in the reward's units",
)
"""What a beta that may be found by a rule must be."""


def require_pool(owner: object, beta: float | BetaRule, pool: int | None) -> None:
    """Refuses a rule without a pool to learn from.

    Raises:
        ConfigError: with the rule.
    """
    if pool is None and isinstance(beta, BetaRule):
        raise ConfigError(
            f"{type(owner).__name__}(beta={shown(beta)}) is found from a pool of draws: give "
            "pool=16"
        )


BETA_RULES: dict[str, type[TargetKL] | type[TargetSampleSize]] = {
    "target_kl": TargetKL,
    "target_sample_size": TargetSampleSize,
}
"""What the command line calls them; a class of one's own is named ``module:Class``."""


def _solved(rewards: Sequence[float], too_strong: Callable[[tuple[float, ...]], bool]) -> float:
    """The least beta that is not too strong; between 1e-6 and 1e6 times the rewards' spread."""
    spread = max(rewards) - min(rewards)
    if spread == 0:
        return 1.0  # equal rewards: every beta is the same law
    # within the floats, however close or far apart the rewards are
    least, most = sys.float_info.min, sys.float_info.max / 2
    low = math.log(min(max(spread * 1e-6, least), most))
    high = math.log(min(spread * 1e6, most))
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if too_strong(tilted_weights(rewards, math.exp(middle))):
            low = middle
        else:
            high = middle
    return math.exp(high)


def _pool_kl(weights: Sequence[float]) -> float:
    return math.log(len(weights)) + math.fsum(w * math.log(w) for w in weights if w > 0)
