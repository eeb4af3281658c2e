"""Rules that find beta for each prompt from the rewards of a pool of the policy's own draws.

The tilted policy is pi(y) exp(r(y) / beta) / Z. A rule chooses beta such that the tilt has a given
strength on the pool.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.core.checks import Allowed, above, check_settings, quote
from rsalign.core.errors import ConfigError
from rsalign.core.trace import Note
from rsalign.selectors.estimators import effective_sample_size, tilted_weights

_NEAR = 1e-9  # relative: a value within it of a limit that no beta reaches counts as that limit


@runtime_checkable
class BetaRule(Protocol):
    """A rule that chooses beta for one prompt from rewards of draws of the policy.

    An immutable value. If there may be no beta that does what the rule asks for, the rule has a
    method ``unreachable(rewards) -> str | None``: the reason, for the user; None if there is one.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Spread:  # the range of the rewards
        ...     def beta(self, rewards: Sequence[float]) -> float:
        ...         return max(rewards) - min(rewards) or 1.0
        >>> Spread().beta([1.0, 2.0, 4.0])
        3.0
    """

    def beta(self, rewards: Sequence[float]) -> float:
        """The beta of the target pi exp(r / beta), in the reward's units, above 0.

        Args:
            rewards: of independent draws, ``(draws,)``.

        Raises:
            ConfigError: if there are too few draws.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKL:
    """Chooses the beta at which KL(target || policy), estimated on the pool, has a given value.

    The estimate is ln n - H(w), where w are the self-normalised weights of the n draws and H is the
    entropy. It is at most ln n, and reliable only well below that. If m draws share the highest
    reward, it tends to ln(n / m) as beta tends to 0, and no beta makes it greater. A greater value
    of `nats` is `unreachable`; beta is then the greatest one that comes as near as possible (to
    nine digits).

    Attributes:
        nats: the divergence, above 0.

    Raises:
        ConfigError: if `nats` is not above 0; in `beta`, if the pool is too small for it.

    Example:
        >>> rewards = (0.0, 1.0, 2.0, 3.0)
        >>> TargetKL(nats=0.5).beta(rewards) > TargetKL(nats=1.0).beta(rewards)
        True
    """

    nats: float

    def __post_init__(self) -> None:
        check_settings(self, nats=above(0.0))

    def beta(self, rewards: Sequence[float]) -> float:
        """The greatest beta with this KL, which falls as beta grows."""
        if (why := self.too_few(len(rewards))) is not None:
            raise ConfigError(f"{self}: {why}")
        aim = min(self.nats, self._limit(rewards) * (1 - _NEAR))
        return _beta_for_weights(rewards, lambda weights: _pool_kl(weights) - aim)

    def too_few(self, num_draws: int) -> str | None:
        """Why so many draws cannot show this KL, whatever their rewards; None if they can."""
        least = math.ceil(math.exp(min(self.nats, 700.0))) + 1  # e^710 is more than a float holds
        if num_draws >= least:
            return None
        most = math.log(num_draws)
        return f"{num_draws} draws show at most {most:.3g} nats; draw a pool of at least {least:g}"

    def unreachable(self, rewards: Sequence[float]) -> str | None:
        """Why no beta gives this KL on these rewards; None if one does."""
        limit = self._limit(rewards)
        if self.nats <= limit * (1 + _NEAR):
            return None
        return (
            f"{self} is out of reach: {_ties(rewards)}, so that they show at most {limit:.3g} nats"
        )

    def _limit(self, rewards: Sequence[float]) -> float:
        return math.log(len(rewards) / _num_best(rewards))


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSampleSize:
    """Chooses the beta at which the pool's effective sample size is a given share of its size.

    If m draws share the highest reward, no beta makes that size smaller than m. A smaller target is
    `unreachable`; beta is then the greatest one that comes as near as possible (to nine digits).

    Attributes:
        share: of the number of draws, above 0 and below 1; 0.5 means that the weighted pool is
            worth half as many draws as it has.

    Raises:
        ConfigError: if `share` is out of its range; in `beta`, if the pool is too small for it.

    Example:
        >>> rewards = (0.0, 1.0, 2.0, 3.0)
        >>> TargetSampleSize(share=0.5).beta(rewards) < TargetSampleSize(share=0.9).beta(rewards)
        True
    """

    share: float

    def __post_init__(self) -> None:
        check_settings(self, share=above(0.0, below=1.0))

    def beta(self, rewards: Sequence[float]) -> float:
        """The greatest beta with this effective sample size, which grows with beta."""
        if (why := self.too_few(len(rewards))) is not None:
            raise ConfigError(f"{self}: {why}")
        size = self.share * len(rewards)
        aim = max(size, _num_best(rewards) * (1 + _NEAR))
        return _beta_for_weights(rewards, lambda weights: aim - effective_sample_size(weights))

    def too_few(self, num_draws: int) -> str | None:
        """Why so many draws are not enough, whatever their rewards; None if they are."""
        size = self.share * num_draws
        if size > 1:
            return None
        least = math.floor(min(1 / self.share, sys.float_info.max)) + 1
        return (
            f"of {num_draws} draws that is {size:.3g}, and one is the least; draw a pool of at "
            f"least {least:g}"
        )

    def unreachable(self, rewards: Sequence[float]) -> str | None:
        """Why no beta gives this size on these rewards; None if one does."""
        size, least = self.share * len(rewards), _num_best(rewards)
        if size >= least * (1 - _NEAR):
            return None
        return (
            f"{self} ({size:.3g} draws) is out of reach: {_ties(rewards)}, and as many is the least"
        )


def resolve_beta(beta: float | BetaRule, rewards: Sequence[float]) -> float:
    """The number itself, or the beta that the rule finds for these rewards.

    Raises:
        ConfigError: if the rule is given too few rewards.
    """
    if isinstance(beta, BetaRule):
        if not rewards:
            raise ConfigError(f"beta={beta!r} is found from a pool of draws: give a number here")
        return beta.beta(rewards)
    return beta


def why_unreachable(beta: float | BetaRule, rewards: Sequence[float]) -> str | None:
    """Why no beta does what the rule asks for; None if one does, or if `beta` is a number.

    Args:
        beta: a number, or a rule.
        rewards: the rewards that beta was found from.
    """
    unreachable = getattr(beta, "unreachable", None)
    return None if unreachable is None else unreachable(rewards)


def why_too_few(beta: float | BetaRule, num_rewards: int) -> str | None:
    """Why a rule can find no beta from so few rewards; None if it can, or if `beta` is a number."""
    if not isinstance(beta, BetaRule):
        return None
    too_few = getattr(beta, "too_few", None)
    why = "there is none" if not num_rewards else too_few and too_few(num_rewards)
    return f"beta={beta!r} is found from the allowed draws, {num_rewards}: {why}" if why else None


def beta_notes(beta: float | BetaRule, rewards: Sequence[float]) -> dict[str, Note]:
    """The note ``beta``; for a rule also ``target_unreachable``, whether no beta satisfies it."""
    notes: dict[str, Note] = {"beta": resolve_beta(beta, rewards)}
    if isinstance(beta, BetaRule):
        notes["target_unreachable"] = why_unreachable(beta, rewards) is not None
    return notes


def beta_warnings(beta: float | BetaRule, rewards: Sequence[float]) -> tuple[str, ...]:
    """Warnings for the user about the beta that was found."""
    if (why := why_unreachable(beta, rewards)) is None:
        return ()
    found = resolve_beta(beta, rewards)
    if min(rewards) == max(rewards):
        return (f"{why}; these rewards are the same law at every beta, and {found:g} is used",)
    return (f"{why}; the greatest beta that comes nearest is used, {found:.3g}",)


BETA = Allowed(
    low=0.0,
    excludes_low=True,
    words="a rule such as TargetKL(nats=1.0) of rsalign.chains.beta_rules",
    note="in the reward's units",
)
"""What a setting `beta` that may be a rule must be, for `check_settings`."""


def require_pool(owner: object, beta: float | BetaRule, pool: int | None) -> None:
    """Refuses a rule without a pool to find beta from, or with one that can never be enough for it.

    Raises:
        ConfigError: with the rule.
    """
    if not isinstance(beta, BetaRule):
        return
    setting = f"{type(owner).__name__}(beta={quote(beta)}"
    if pool is None:
        raise ConfigError(f"{setting}) is found from a pool of draws: give pool=16")
    too_few = getattr(beta, "too_few", None)
    if too_few is not None and (why := too_few(pool)) is not None:
        raise ConfigError(f"{setting}, pool={pool}): {why}")


BETA_RULES: dict[str, type[TargetKL] | type[TargetSampleSize]] = {
    "target_kl": TargetKL,
    "target_sample_size": TargetSampleSize,
}
"""Rules by their names in settings; any other class is named as ``module:Class``."""

BETA_NOTES = {
    "beta": "divides the reward",
    "target_unreachable": "no beta gives what the rule asks for",
}
"""What the notes of `beta_notes` mean (`rsalign.core.capabilities.note_meanings`)."""


def greatest_beta(
    pools: Sequence[Sequence[float]], excess: Callable[[float], float]
) -> float | None:
    """The greatest beta at which `excess` is not negative, by root search; None if all are alike.

    Args:
        pools: rewards of draws, by prompt.
        excess: a function of beta that is above 0 where the tilt is too strong, and falls as beta
            grows. It must depend on beta only through the weights exp(r / beta) within each pool.

    Returns:
        None if the rewards of each pool are equal: every beta is then the same law.
    """
    from scipy.optimize import brentq

    gaps, spreads = [], []
    for pool in pools:
        highest = max(pool)
        lower = [reward for reward in pool if reward < highest]
        if lower:
            gaps.append(highest - max(lower))
            spreads.append(highest - min(lower))
    if not gaps:
        return None

    def excess_at(log_beta: float) -> float:
        return excess(math.exp(log_beta))

    # e^-800 is 0 in float64: at the lower end only the best draws of each pool have weight
    low = math.log(max(min(gaps) / 800, math.ulp(0.0)))
    spread = min(max(spreads), sys.float_info.max)  # the difference of two floats may overflow
    high = min(math.log(spread) + math.log(1e6), 709.0)
    # a root beyond an end cannot be told from that end, because of rounding
    for end, sign in ((high, 1), (low, -1)):
        if sign * excess_at(end) >= 0:
            return math.exp(end)
    return math.exp(brentq(excess_at, low, high, xtol=1e-12))


def _beta_for_weights(
    rewards: Sequence[float], excess: Callable[[tuple[float, ...]], float]
) -> float:
    """The greatest beta at which `excess` of the pool's weights is not negative."""
    beta = greatest_beta([rewards], lambda beta: excess(tilted_weights(rewards, beta)))
    return 1.0 if beta is None else beta


def _num_best(rewards: Sequence[float]) -> int:
    highest = max(rewards)
    return sum(reward == highest for reward in rewards)


def _ties(rewards: Sequence[float]) -> str:
    num_best = _num_best(rewards)
    if num_best == len(rewards):
        return f"all {num_best} draws have the same reward"
    return f"{num_best} of {len(rewards)} draws share the highest reward"


def _pool_kl(weights: Sequence[float]) -> float:
    return math.fsum(w * math.log(w * len(weights)) for w in weights if w > 0)
