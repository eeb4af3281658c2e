"""Quest: Metropolis-Hastings towards the reward alone, whatever the policy thinks of a response.

Law      Stationary: exp(r(y) / beta) / Z on responses of at most `max_tokens` tokens, EOS counted,
         among those that the policy can draw at all. The policy only proposes.
Move     As `QAlign`.
Accept   min(1, exp((r' - r) / beta) p(old suffix) / p(new suffix) H(y) / H(y')), with the *sum* of
         the log-probabilities of each suffix under the law it was drawn from.
Paper    QUEST, Faria et al. 2024, arXiv:2406.00049.
Departs  as `QAlign`; the published package takes the mean of the log-probabilities, which is
         another law.
Cost     as `QAlign`. Long responses are many, so that a flat reward prefers them; keep
         `max_tokens` small.
Streams  at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rsalign.chains.beta_rules import (
    BETA,
    BetaRule,
    beta_notes,
    beta_warnings,
    found_beta,
    require_pool,
)
from rsalign.chains.kernel import LogWeight
from rsalign.chains.likelihood import log_prob
from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.trace import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Quest(MarkovChain):
    """Chains that target exp(r(y) / beta); see `MarkovChain` for all other settings.

    It takes a policy that tells log-probabilities of the law it draws from.

    Attributes:
        beta: as in `QAlign`.

    Raises:
        ConfigError: as `QAlign`; while running, if a response has no log-probabilities.
    """

    beta: float | BetaRule = 1.0

    def __post_init__(self) -> None:
        self.check(beta=BETA)
        require_pool(self, self.beta, self.pool)

    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        """The reward divided by beta, against the policy's own probability."""
        beta = found_beta(self.beta, prompt_rewards)
        return lambda candidate: self.exponent(
            candidate.reward / beta - log_prob(candidate.response)
        )

    def found(self, prompt_rewards: Sequence[float]) -> Mapping[str, Note]:
        """``beta``, and ``target_unreachable`` where a rule found it."""
        return beta_notes(self.beta, prompt_rewards)

    def warnings(self, prompt_rewards: Sequence[float]) -> Sequence[str]:
        """That the target of the rule is out of reach, if it is."""
        return beta_warnings(self.beta, prompt_rewards)
