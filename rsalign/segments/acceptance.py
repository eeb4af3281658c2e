"""Acceptance rules: the probability that a draft is accepted, given its reward and a threshold.

`SoftAcceptance` is exact rejection sampling for the clipped reward min(r, threshold): rewards above
the threshold are not preferred any further. Both rules are those of CARDS, arXiv:2406.16306.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from rsalign.core.checks import POSITIVE_REWARD, check_settings, part
from rsalign.segments.conformal import Conformal


class Acceptance(Protocol):
    """A rule for accepting drafts. An immutable value.

    Example:
        >>> import math
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Half:  # accepts half of what reaches the threshold, and nothing else
        ...     def log_accept(self, reward: float, threshold: float) -> float:
        ...         return math.log(0.5) if reward >= threshold else -math.inf
        >>> half: Acceptance = Half()
        >>> half.log_accept(1.0, 2.0)
        -inf
    """

    def log_accept(self, reward: float, threshold: float) -> float:
        """The natural logarithm of the acceptance probability, nats, at most 0.

        Args:
            reward: of the answer up to the end of the draft, finite.
            threshold: in the reward's units, finite.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftAcceptance:
    """Accepts with probability min(1, exp((reward - threshold) / beta)).

    Attributes:
        beta: divides the reward, in its units, above 0. Towards 0 it is `HardAcceptance`.

    Raises:
        ConfigError: if `beta` is not a finite number above 0.

    Example:
        >>> SoftAcceptance(beta=0.5).log_accept(1.0, 2.0)
        -2.0
    """

    beta: float

    def __post_init__(self) -> None:
        check_settings(self, beta=POSITIVE_REWARD)

    def log_accept(self, reward: float, threshold: float) -> float:
        """(reward - threshold) / beta, but at most 0."""
        return min(0.0, reward - threshold) / self.beta


@dataclass(frozen=True, slots=True, kw_only=True)
class HardAcceptance:
    """Accepts if and only if the reward is at least the threshold.

    Example:
        >>> HardAcceptance().log_accept(2.0, 2.0), HardAcceptance().log_accept(1.0, 2.0)
        (0.0, -inf)
    """

    def log_accept(self, reward: float, threshold: float) -> float:
        """0 if the reward is at least the threshold, else minus infinity."""
        return 0.0 if reward >= threshold else -math.inf


ACCEPTANCE = part("an acceptance rule, such as SoftAcceptance(beta=0.7) or HardAcceptance()")
"""What a rule must be where it is a setting, for `check_settings`."""

ACCEPTANCES: dict[str, type[SoftAcceptance | HardAcceptance | Conformal]] = {
    "soft": SoftAcceptance,
    "hard": HardAcceptance,
    "conformal": Conformal,
}
"""Acceptance rules by their names in settings; any other class is ``module:Class``."""
