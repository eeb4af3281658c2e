"""Conformal: a rule of acceptance that rejects a chosen share, whatever the rewards are.

Law      Let s_1 .. s_n be the rewards of n calibration drafts, and s that of the draft under test.
         If the n + 1 are exchangeable (drawn independently from one law, say), each rank of s is
         equally likely, so that rejecting the lowest floor(alpha (n + 1)) ranks gives
             P(reject) = floor(alpha (n + 1)) / (n + 1)  <=  alpha.
         Equal rewards are ordered at random: with b calibration rewards below s and e equal to it,
         P(reject | rewards) = min(1, max(0, floor(alpha (n + 1)) - b) / (e + 1)).
Paper    conformal prediction: Vovk et al. 2005; for draft and target models: Asynchronous
         Test-Time Scaling, Xiong et al. 2025, arXiv:2509.15148.
Departs  The calibration drafts are drawn anew at each segment, after the same tokens as the draft
         under test, so that they are exchangeable with it, and no answer depends on another one.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from rsalign.core.checks import Allowed, at_least, check_settings, setting_error
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate

A = TypeVar("A")

_ROUNDING = 1e-9  # of alpha (n + 1): 0.29 * 100 is below 29 in floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformal:
    """Rejects the share `alpha` of drafts that have the lowest rewards; there is no threshold.

    A strategy that tests drafts of a segment draws `draws` more of them first, which are tested
    never and compared with all tests of that segment. The share is that of each single test.

    Attributes:
        alpha: the share that is rejected, 0 to below 1.
        draws: number of calibration drafts of each segment. The share is a multiple of
            1 / (draws + 1), rounded down.
        scores: rewards of calibration drafts that are known already, ``(draws,)``. They must be of
            the same law as the drafts under test; none are then drawn. Minus infinity for one that
            a constraint excludes.

    Raises:
        ConfigError: if a setting is out of its range, or nothing would ever be rejected because
            there are too few calibration drafts.

    Example:
        >>> rule = Conformal(alpha=0.5, scores=(1.0, 2.0, 3.0))
        >>> math.exp(rule.log_accept(0.5, math.nan)), math.exp(rule.log_accept(2.5, math.nan))
        (0.0, 1.0)
    """

    alpha: float
    draws: int = 9
    scores: tuple[float, ...] = ()

    needs_threshold: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # what a constraint excludes ranks below everything
        scores = Allowed(infinity=True, excludes_high=True, note="minus infinity: excluded")
        check_settings(self, alpha=at_least(0.0, 1.0), draws=at_least(1), scores=scores)
        n = len(self.scores) or self.draws
        if self.alpha == 1 or (self.alpha and not self._num_rejected):
            raise setting_error(
                self,
                "alpha",
                f"0, or from 1 / {n + 1} to below 1: among {n} calibration drafts and the one "
                "under test, whole ranks are rejected",
            )

    @property
    def _num_rejected(self) -> int:
        """How many of the ranks are rejected."""
        n = len(self.scores) or self.draws
        return math.floor(self.alpha * (n + 1) + _ROUNDING)

    @property
    def calibration_draws(self) -> int:
        """Number of drafts to draw before a test; 0 if the scores are known."""
        return 0 if self.scores else self.draws

    def calibrated(self, scores: Sequence[float]) -> "Conformal":
        """The same rule with the rewards of calibration drafts, ``(draws,)``."""
        return replace(self, scores=tuple(scores))

    def log_accept(self, reward: float, threshold: float) -> float:
        """Ln of the probability that the draft's rank is not among the lowest; no threshold."""
        below = sum(score < reward for score in self.scores)
        equal = sum(score == reward for score in self.scores)
        rejected = min(1.0, max(0, self._num_rejected - below) / (equal + 1))
        return math.log1p(-rejected) if rejected < 1 else -math.inf


async def calibrate(acceptance: A, draw: Callable[[int], Awaitable[float]]) -> A:
    """The rule with calibration scores of this segment, if it needs any; else the rule itself.

    Args:
        acceptance: any rule of acceptance.
        draw: from a number to the value of another draft of the same law.
    """
    num_draws = getattr(acceptance, "calibration_draws", 0)
    if not num_draws:
        return acceptance
    scores = await concurrently(draw(i) for i in range(num_draws))
    calibrated: A = acceptance.calibrated(scores)  # type: ignore[attr-defined]
    return calibrated


def score_of(draft: Candidate) -> float:
    """The reward of a calibration draft; what is excluded ranks below everything."""
    return -math.inf if draft.excluded else draft.reward
