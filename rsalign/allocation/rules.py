"""Rules of allocation: how urgently a prompt needs its next draw.

The prompt with the greatest urgency draws next, of equal ones the first. A rule sees what a prompt
has drawn so far, and how many more draws it was promised and has not made yet.

`Uniform`: every prompt in turn.

`Blend`: the prompt whose vote is in the greatest doubt.
Paper    Feng et al. 2025, arXiv:2511.12309 (Blend-ASC): the doubt of Adaptive-Consistency (Aggarwal
         et al. 2023, arXiv:2305.11860; `beta_confidence`) and that of the sequential test PPR-1v1
         (`log_evidence`) together rank the prompts.
Departs  The paper's schedule of blending the two ranks could not be verified. Here the doubt is the
         mean of two probabilities, 1 minus the posterior confidence and the test's p-value. The
         first falls quickly; the second stays near 1 until a lead is significant.

`ByAcceptance`: numbers of draws that minimise the variance of a gradient estimate.
Paper    Yao et al. 2025, arXiv:2505.02391 (GVM-RAFT): n_i in proportion to
         G_i / sqrt(p_i + alpha p_i^(1 - b)), with p_i the share of draws that are accepted.
Departs  p_i is the posterior mean (accepted + 1) / (draws + 2): a prompt of which 0 of 8 draws were
         accepted still gets more, while the published code gives it none. G_i is 1, unless weights
         are given. Shares become whole numbers by the method of highest averages (Webster).

`Unsolved`: for answers that can be verified, the prompt that is most likely to be solved by one
more draw, among those that no draw has solved.
Paper    The elimination rule of Zuo and Zhu 2025, arXiv:2506.12721, and the greedy choice by the
         posterior mean of the solve rate.
Departs  Solved prompts are drawn again only when all are solved, so that a total is spent exactly.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from rsalign.core.checks import REWARD, at_least, check_settings
from rsalign.selectors.leads import beta_confidence, log_evidence


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one prompt has drawn so far.

    Attributes:
        answers: of the draws, as the selector's extractor reads them; None for a draw without an
            answer, and for all draws if the selector has no extractor, ``(draws,)``.
        rewards: of the draws; minus infinity for an excluded one, ``(draws,)``.
        promised: further draws that it will make in this round, and that nobody has seen yet.

    Example:
        >>> Drawn(("3", "4"), (0.5, 1.0), promised=1).num_draws
        3
    """

    answers: tuple[str | None, ...] = ()
    rewards: tuple[float, ...] = ()
    promised: int = 0

    @property
    def num_draws(self) -> int:
        """All draws, the promised ones included."""
        return len(self.rewards) + self.promised


@runtime_checkable
class AllocationRule(Protocol):
    """A rule that says which of many prompts draws next. An immutable value.

    A rule may declare ``needs_answers`` (it reads `Drawn.answers`) and ``needs_reward``.

    Example:
        >>> class LongestWait:
        ...     def urgency(self, drawn):
        ...         return -drawn.num_draws
        >>> isinstance(LongestWait(), AllocationRule)
        True
    """

    def urgency(self, drawn: Drawn) -> float:
        """How urgently a prompt needs its next draw; the greatest value draws. Not NaN."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Every prompt in turn, so that numbers of draws differ by at most 1.

    Example:
        >>> Uniform().urgency(Drawn(promised=2)) < Uniform().urgency(Drawn())
        True
    """

    needs_answers: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = False

    def urgency(self, drawn: Drawn) -> float:
        """Minus the number of draws."""
        return -drawn.num_draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The prompt whose vote is in the greatest doubt draws next.

    A promised draw counts as resolving its share of the doubt: the doubt is divided by 1 and the
    number of promised draws.

    Example:
        >>> clear, open_vote = Drawn(("4",) * 6, (0.0,) * 6), Drawn(("3", "4"), (0.0, 0.0))
        >>> Blend().urgency(clear) < Blend().urgency(open_vote)
        True
    """

    needs_answers: ClassVar[bool] = True
    needs_reward: ClassVar[bool] = False

    def urgency(self, drawn: Drawn) -> float:
        """The mean of the two doubts, 0 to 1, over 1 plus the promised draws."""
        return _doubt(drawn.answers) / (1 + drawn.promised)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByAcceptance:
    """Draws in proportion to 1 / sqrt(p + alpha p^(1 - b)), p being the share of accepted draws.

    Attributes:
        threshold: a draw is accepted if its reward is at least this.
        alpha: not negative; 0 allocates in proportion to 1 / sqrt(p).
        b: from 0 to 1.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> rule = ByAcceptance(threshold=0.0)
        >>> hard, easy = Drawn((None,) * 8, (-1.0,) * 8), Drawn((None,) * 8, (1.0,) * 8)
        >>> rule.urgency(hard) > rule.urgency(easy) > 0
        True
    """

    threshold: float = 0.0
    alpha: float = 0.0
    b: float = 1.0

    needs_answers: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, threshold=REWARD, alpha=at_least(0.0), b=at_least(0.0, 1.0))

    def urgency(self, drawn: Drawn) -> float:
        """The share that the prompt should have, over the draws it has, by highest averages."""
        p = acceptance(drawn.rewards, self.threshold)
        return 1 / math.sqrt(p + self.alpha * p ** (1 - self.b)) / (2 * drawn.num_draws + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsolved:
    """Among prompts without a right answer, the one most likely to be solved by the next draw.

    Attributes:
        threshold: a draw solves its prompt if its reward is at least this.

    Raises:
        ConfigError: if `threshold` is not finite.

    Example:
        >>> rule = Unsolved(threshold=1.0)
        >>> rule.urgency(Drawn()) > rule.urgency(Drawn((None,), (0.0,))) > 0
        True
        >>> rule.urgency(Drawn((None,), (1.0,))) < 0
        True
    """

    threshold: float = 1.0

    needs_answers: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, threshold=REWARD)

    def urgency(self, drawn: Drawn) -> float:
        """The posterior mean of the solve rate; minus the number of draws once it is solved."""
        if any(reward >= self.threshold for reward in drawn.rewards):
            return -drawn.num_draws
        # promised draws count as unsolved ones: they are likely to be
        return 1 / (drawn.num_draws + 2)


def acceptance(rewards: Sequence[float], threshold: float) -> float:
    """The posterior mean of the acceptance rate under a uniform prior, strictly within (0, 1)."""
    accepted = sum(reward >= threshold for reward in rewards)
    return (accepted + 1) / (len(rewards) + 2)


def _doubt(answers: Sequence[str | None]) -> float:
    """The mean of a Bayesian and of a sequential probability that the leader is not the mode."""
    counts = [count for _, count in Counter(a for a in answers if a is not None).most_common(2)]
    leader, rival = (*counts, 0, 0)[:2]
    p_value = math.exp(min(0.0, -log_evidence(max(0, leader - 1), rival)))
    return (1 - beta_confidence(leader, rival) + p_value) / 2
