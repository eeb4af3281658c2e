"""Power: Metropolis-Hastings towards what the policy itself thinks most probable.

Law      Stationary: pi(y)^alpha / Z on responses of at most `max_tokens` tokens, EOS counted; one
         that was cut off there is a state like any other. No reward is asked.
Move     As `QAlign`: suffixes are drawn from pi.
Accept   min(1, (p(new suffix) / p(old suffix))^(alpha - 1) H(y) / H(y')). Replicas with factor f
         target the power 1 + (alpha - 1) / f.
Paper    power sampling, Karan and Du 2025, arXiv:2510.14901; replicas at lower powers: Parallel
         Power Tempering, Theodoropoulos et al. 2026.
Departs  all responses are states of one fixed space, whatever their length: the published code
         bounds a proposal by the length of the state, so that lengths only shrink, and compares
         sums over different lengths without the ratio of cuts. Proposals are drawn at the policy's
         own temperature, not at 1 / alpha: give it `Sampling(temperature=...)` and the law is that
         power of the *tempered* policy.
Cost     as `QAlign` without rewards.
Streams  at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.chains.kernel import LogWeight
from rsalign.chains.likelihood import log_prob
from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.capabilities import needs_reward
from rsalign.core.checks import at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(MarkovChain):
    """Chains that target pi(y)^alpha; see `MarkovChain` for all other settings.

    It takes a policy that tells log-probabilities of the law it draws from.

    Attributes:
        alpha: the power; 1 is the policy itself, greater ones sharpen it.

    Raises:
        ConfigError: if a setting is out of its range; while running, if a response has no
            log-probabilities.
    """

    alpha: float = 4.0

    @property
    def needs_reward(self) -> bool:
        """Only where the answer is chosen by it."""
        return needs_reward(self.answer)

    def __post_init__(self) -> None:
        self.check(alpha=at_least(0.0, note="4 is the paper's"))

    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        """The log-probability times alpha - 1."""
        return lambda candidate: self.exponent((self.alpha - 1) * log_prob(candidate.response))
