"""QAlign: Metropolis-Hastings over whole responses; a move draws a suffix anew.

Law      Stationary: pi(y) exp(r(y) / beta) / Z on responses of at most `max_tokens` tokens, EOS
         counted. A response that was cut off at this length is a state like any other
         (`truncated`). After finitely many steps the law of the state still differs from it; the
         notes `r_hat_reward` and `ess_reward` tell how far. With `restart` > 0 each step
         multiplies its distance by 1 - restart * Z / max exp(r / beta) or less (with "i_sir" and k
         candidates, that product times k / (k + 1)). The answer is what `answer` chooses from the
         states.
Move     Keep y_<i for a cut i from `cuts`, and draw the rest from pi, `candidates` times. With
         ``proposal="draft"`` a draft q draws the rest, and the target is the same, if q can write
         whatever pi can: a draft that truncates is refused.
Accept   min(1, exp((r' - r) / beta) H(y) / H(y')), where H is the normaliser of the cut law:
         |y| / |y'| for uniform cuts. For several candidates see `rsalign.chains.metropolis`.
         With a draft, times pi(new suffix) q(old suffix) / (pi(old suffix) q(new suffix)), each
         under the sampling settings that tokens are drawn with.
         Replicas at beta_a and beta_b exchange states with probability
         min(1, exp((1 / beta_a - 1 / beta_b) (r_b - r_a))).
Paper    QAlign, Faria et al. 2025, arXiv:2504.03790.
Departs  EOS is part of the state; the whole response is bounded, not the suffix; token ids are
         never decoded and encoded again; chains do not wait for each other. Other cut laws,
         several candidates, restarts, tempering and the start from a pool are ours. With
         ``recycle=False``, ``answer=MajorityVote(...)`` and otherwise defaults it is the published
         sampler.
Cost     a step draws |y| / 2 tokens on average (uniform cuts) for each candidate and replica, and
         judges as many responses. With a draft these are its tokens, and pi scores each
         suffix by one request.
Streams  at the end; until then `Progress` events tell the present answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from rsalign.chains.beta_rules import (
    BETA,
    BETA_NOTES,
    BetaRule,
    beta_notes,
    beta_warnings,
    require_pool,
    resolve_beta,
    why_too_few,
)
from rsalign.chains.diagnostics import CHAIN_NOTES
from rsalign.chains.kernel import LogWeight
from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.trace import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class QAlign(MarkovChain):
    """Runs chains that target pi(y) exp(r(y) / beta); `MarkovChain` has all other settings.

    Notes: ``beta``, and everything in `rsalign.chains.diagnostics.summary`; of these ``log_z`` and
    ``kl`` estimate ln Z and KL(target || pi) in nats.

    Attributes:
        beta: divides the reward, in its units, above 0; or a rule that finds a number for each
            prompt from the rewards of a pool (`rsalign.chains.beta_rules`), which needs ``pool=``.

    Raises:
        ConfigError: if a setting is out of its range, or two contradict each other.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = QAlign(steps=8, beta=0.5, max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["num_steps"]
        8
    """

    beta: float | BetaRule = 1.0

    note_meanings: ClassVar[dict[str, str]] = CHAIN_NOTES | BETA_NOTES

    def __post_init__(self) -> None:
        self.check(beta=BETA)
        require_pool(self, self.beta, self.pool)

    @override
    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        beta = resolve_beta(self.beta, prompt_rewards)
        return lambda candidate: self.finite_log_weight(candidate.reward / beta)

    @override
    def weight_notes(self, prompt_rewards: Sequence[float]) -> Mapping[str, Note]:
        return beta_notes(self.beta, prompt_rewards)

    @override
    def weight_warnings(self, prompt_rewards: Sequence[float]) -> Sequence[str]:
        return beta_warnings(self.beta, prompt_rewards)

    @override
    def why_no_weight(self, prompt_rewards: Sequence[float]) -> str | None:
        return why_too_few(self.beta, len(prompt_rewards))
