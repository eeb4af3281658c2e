"""QAlign: Metropolis-Hastings over whole responses by drawing suffixes anew.

Law      Stationary: pi(y) exp(r(y) / beta) / Z on responses of at most `max_tokens` tokens, EOS
         counted; one that was cut off there is a state like any other (`truncated`). After finitely
         many steps the law of a state is as far from it as the notes tell (`r_hat_reward`,
         `ess_reward`); it can be enumerated, and with `restart` > 0 every step multiplies its
         distance by 1 - restart * Z / max exp(r / beta) or less (with "i_sir" and k candidates, the
         product times k / (k + 1)). The answer is what `answer` makes of the states.
Move     Keep y_<i for a cut i from `cuts`, draw the rest from pi, `candidates` times.
Accept   min(1, exp((r' - r) / beta) H(y) / H(y')), where H is the cut law's normaliser: |y| / |y'|
         for uniform cuts. Several candidates: `rsalign.chains.metropolis`. Replicas at beta times a
         factor exchange states with min(1, exp((1 / beta_a - 1 / beta_b) (r_b - r_a))).
Paper    QAlign, Faria et al. 2025, arXiv:2504.03790.
Departs  EOS is a part of the state; the whole response is bounded, not the suffix; token ids are
         never decoded and encoded again; chains do not wait for each other; other cut laws,
         several candidates, restarts, tempering and the start from a pool are ours. With
         ``recycle=False``, ``answer=MajorityVote(...)`` and otherwise defaults it is the published
         sampler.
Cost     a step draws |y| / 2 tokens on average (uniform cuts) for each candidate and replica, and
         judges as many responses.
Streams  at the end; until then `Progress` events tell the present answer.
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
from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.trace import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class QAlign(MarkovChain):
    """Chains that target pi(y) exp(r(y) / beta); see `MarkovChain` for all other settings.

    Notes: ``beta``; and everything in `rsalign.chains.diagnostics.summary`, of which ``log_z`` and
    ``kl`` estimate ln Z and KL(target || pi) in nats.

    Attributes:
        beta: divides the reward, in its units, above 0; or a rule that finds one for each prompt
            from the rewards of a pool (`rsalign.chains.beta_rules`), which takes ``pool=``.

    Raises:
        ConfigError: if a setting is out of its range, or two contradict each other.
    """

    beta: float | BetaRule = 1.0

    def __post_init__(self) -> None:
        self.check(beta=BETA)
        require_pool(self, self.beta, self.pool)

    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        """The reward divided by beta."""
        beta = found_beta(self.beta, prompt_rewards)
        return lambda candidate: self.exponent(candidate.reward / beta)

    def found(self, prompt_rewards: Sequence[float]) -> Mapping[str, Note]:
        """``beta``, and ``target_unreachable`` where a rule found it."""
        return beta_notes(self.beta, prompt_rewards)

    def warnings(self, prompt_rewards: Sequence[float]) -> Sequence[str]:
        """That the target of the rule is out of reach, if it is."""
        return beta_warnings(self.beta, prompt_rewards)
