"""BestOf: n independent draws, of which a selector chooses one.

Law      By default the highest reward (`Hard`, the first among equals): y has probability
         F(r(y))^n - F(r(y)-)^n, split among responses of equal reward in proportion to their
         probability, where F is the distribution function of the reward of one inner draw and
         F(r-) its left limit (order statistics). For inner draws from pi: KL(law || pi) <=
         ln n - (n - 1) / n, with equality where no two rewards are equal and no response has much
         mass (Beirami et al. 2024, arXiv:2401.01879).
         Any other choice among the draws is a selector, which states its own law given the pool:
         `rsalign.selectors`.
Paper    Stiennon et al. 2020, arXiv:2009.01325; Nakano et al. 2021, arXiv:2112.09332.
Cost     n inner draws, all at once; the prefix cache shares the prompt. Then what the selector
         costs: nothing, but for `Knockout`.
Streams  at the end: until then any candidate may still win.
"""

import math
from dataclasses import dataclass, field

from rsalign.align import needs_reward
from rsalign.errors import ConfigError
from rsalign.protocols import Strategy
from rsalign.rules.estimators import effective_sample_size, pool_kl
from rsalign.run import Run
from rsalign.selectors.hard import Hard
from rsalign.selectors.protocol import Selection, Selector
from rsalign.strategies.plain import Plain
from rsalign.tasks import concurrently
from rsalign.trace import Note, Proposal, Trace, Verdict
from rsalign.types import Candidate, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """One of `n` independent draws of an inner strategy, the best unless `select` says otherwise.

    Notes: ``rewards`` of all candidates (0 where there is no reward); ``kl_estimate``, the mean of
    which bounds KL(law || law of an inner draw) from above, nats (`pool_kl`);
    ``effective_sample_size`` of the selection weights; and those of the selector, such as
    ``kl_formula``.

    Attributes:
        n: number of draws. With the same seed a larger `n` only adds draws.
        inner: the strategy that draws each candidate.
        select: which candidate is the answer.

    Raises:
        ConfigError: if `n` is not at least 1, or `select` cannot select.
    """

    n: int = 4
    inner: Strategy = field(default_factory=Plain)
    select: Selector = field(default_factory=Hard)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"BestOf(n={self.n}): draw at least 1 candidate")
        if not callable(getattr(self.select, "select", None)) or isinstance(self.select, type):
            raise ConfigError(
                f"BestOf(select={self.select!r}): give a selector, such as Hard() or "
                "Soft(temperature=0.5) of rsalign.selectors"
            )

    @property
    def needs_reward(self) -> bool:
        """Whether the selector or the inner strategy does."""
        return bool(getattr(self.select, "needs_reward", True)) or needs_reward(self.inner)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws n candidates and keeps the one that the selector chooses."""
        candidates = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", i)) for i in range(self.n)
        )
        selection = await self.select.select(prompt, candidates, run.key.child("select"))
        _record(run.trace, candidates, selection)
        chosen = candidates[selection.index]
        run.trace.commit(chosen.tokens)
        return chosen


def _record(trace: Trace, candidates: list[Candidate], selection: Selection) -> None:
    for i, (candidate, prob) in enumerate(zip(candidates, selection.probs, strict=True)):
        verdict = Verdict.ACCEPTED if i == selection.index else Verdict.REJECTED
        log_accept = min(0.0, math.log(prob)) if prob > 0 else float("-inf")
        trace.propose(Proposal(candidate=candidate, kept=0, log_accept=log_accept, verdict=verdict))
    notes: dict[str, Note] = {
        "rewards": tuple(float(candidate.reward) for candidate in candidates),
        "kl_estimate": pool_kl(selection.probs, [candidate.tokens for candidate in candidates]),
        "effective_sample_size": effective_sample_size(selection.probs),
    }
    trace.note(**notes | dict(selection.notes))
