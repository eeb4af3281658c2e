"""Quest: Metropolis-Hastings towards the reward alone; the policy only proposes.

Law      Stationary: exp(r(y) / beta) / Z on responses of at most `max_tokens` tokens, EOS counted,
         among those that the policy can draw at all. The policy's probability does not count.
Move     As `QAlign`; a draft gives the same target, too.
Accept   min(1, exp((r' - r) / beta) p(old suffix) / p(new suffix) H(y) / H(y')), with the *sum* of
         the log-probabilities of each suffix under the law that it was drawn from.
Paper    QUEST, Faria et al. 2024, arXiv:2406.00049.
Departs  As `QAlign`. The published package takes the mean of the log-probabilities, which is
         another law.
Cost     As `QAlign`. There are more long responses than short ones, so that a flat reward prefers
         long ones: keep `max_tokens` small.
Streams  at the end.
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
from rsalign.chains.kernel import LogWeight, log_prob
from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.trace import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Quest(MarkovChain):
    """Runs chains that target exp(r(y) / beta); `MarkovChain` has all other settings.

    The policy must report log-probabilities of the law that it draws from.

    Attributes:
        beta: as in `QAlign`.

    Raises:
        ConfigError: as `QAlign`; while running, if a response has no log-probabilities.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Quest(steps=8, beta=0.5, max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["beta"]
        0.5
    """

    beta: float | BetaRule = 1.0

    note_meanings: ClassVar[dict[str, str]] = CHAIN_NOTES | BETA_NOTES

    def __post_init__(self) -> None:
        self.check(beta=BETA)
        require_pool(self, self.beta, self.pool)

    @override
    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        beta = resolve_beta(self.beta, prompt_rewards)
        return lambda candidate: self.finite_log_weight(
            candidate.reward / beta - log_prob(candidate.response)
        )

    @override
    def weight_notes(self, prompt_rewards: Sequence[float]) -> Mapping[str, Note]:
        return beta_notes(self.beta, prompt_rewards)

    @override
    def weight_warnings(self, prompt_rewards: Sequence[float]) -> Sequence[str]:
        return beta_warnings(self.beta, prompt_rewards)

    @override
    def why_no_weight(self, prompt_rewards: Sequence[float]) -> str | None:
        return why_too_few(self.beta, len(prompt_rewards))
