"""BestOf: the best of n independent draws under the reward.

Law      y has probability F(r(y))^n - F(r(y)-)^n, split among responses of equal reward in
         proportion to their probability, where F is the distribution function of the reward of one
         inner draw and F(r-) its left limit (order statistics). For inner draws from pi:
         KL(law || pi) <= ln n - (n - 1) / n, with equality where no two rewards are equal and no
         response has much mass (Beirami et al. 2024, arXiv:2401.01879).
Paper    Stiennon et al. 2020, arXiv:2009.01325; Nakano et al. 2021, arXiv:2112.09332.
Cost     n inner draws, all at once; the prefix cache shares the prompt.
Streams  at the end: until then any candidate may still win.
"""

from dataclasses import dataclass, field

from rsalign.errors import ConfigError
from rsalign.protocols import Strategy
from rsalign.rules.selection import best
from rsalign.run import Run
from rsalign.strategies.plain import Plain
from rsalign.tasks import concurrently
from rsalign.trace import Proposal, Verdict
from rsalign.types import Candidate, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """The best of `n` independent draws of an inner strategy.

    Attributes:
        n: number of draws. With the same seed a larger `n` only adds draws.
        inner: the strategy that draws each candidate.

    Raises:
        ConfigError: if `n` is not at least 1.
    """

    n: int = 4
    inner: Strategy = field(default_factory=Plain)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"BestOf(n={self.n}): draw at least 1 candidate")

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws n candidates and keeps the one with the highest reward."""
        candidates = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", i)) for i in range(self.n)
        )
        chosen = best([candidate.reward for candidate in candidates])
        for i, candidate in enumerate(candidates):
            verdict = Verdict.ACCEPTED if i == chosen else Verdict.REJECTED
            log_accept = 0.0 if i == chosen else float("-inf")
            run.trace.propose(
                Proposal(candidate=candidate, kept=0, log_accept=log_accept, verdict=verdict)
            )
        run.trace.commit(candidates[chosen].tokens)
        return candidates[chosen]
