"""Power: Metropolis-Hastings towards the responses that the policy itself thinks most probable.

Law      Stationary: pi(y)^alpha / Z on responses of at most `max_tokens` tokens, EOS counted. A
         response that was cut off at this length is a state like any other. No reward is needed.
Move     As `QAlign`: suffixes are drawn from pi, or from a draft for the same target.
Accept   min(1, (p(new suffix) / p(old suffix))^(alpha - 1) H(y) / H(y')). Replicas with factor f
         target the power 1 + (alpha - 1) / f.
Paper    power sampling, Karan and Du 2025, arXiv:2510.14901; replicas at lower powers: Parallel
         Power Tempering, Theodoropoulos et al. 2026.
Departs  All responses, whatever their length, are states of one fixed space. The published code
         bounds a proposal by the length of the state, so that lengths only shrink, and compares
         sums over different lengths without the ratio of cuts. Proposals are drawn at the policy's
         own temperature, not at 1 / alpha: with ``Sampling(temperature=...)`` the law is that
         power of the *tempered* policy.
Cost     As `QAlign` without rewards.
Streams  at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from rsalign.chains.kernel import LogWeight, log_prob
from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.capabilities import needs_reward
from rsalign.core.checks import at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(MarkovChain):
    """Runs chains that target pi(y)^alpha; `MarkovChain` has all other settings.

    The policy must report log-probabilities of the law that it draws from.

    Attributes:
        alpha: the power. 1 is the policy itself; greater ones sharpen it.

    Raises:
        ConfigError: if a setting is out of its range; while running, if a response has no
            log-probabilities.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy
        >>> with Aligner(ToyPolicy(), None, Power(steps=8, alpha=4.0, max_tokens=6)) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.usage.reward_calls
        0
    """

    alpha: float = 4.0

    @property
    def needs_reward(self) -> bool:
        """Whether `answer` chooses by reward; the chains themselves need none."""
        return needs_reward(self.answer)

    def __post_init__(self) -> None:
        self.check(alpha=at_least(0.0, note="4 is the paper's"))

    @override
    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        return lambda candidate: self.finite_log_weight(
            (self.alpha - 1) * log_prob(candidate.response)
        )
