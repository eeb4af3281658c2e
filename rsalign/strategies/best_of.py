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
         costs: nothing, but for `Knockout`. One draw where the policy has one possible answer.
Streams  at the end: until then any candidate may still win.
"""

from dataclasses import dataclass, field

from rsalign.core.capabilities import (
    HIGHEST_REWARD,
    AnswerLaw,
    answer_law,
    cuts_answers,
    picks,
    varies_by_policy_alone,
)
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import Strategy
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.hard import Hard
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.strategies.plain import Plain
from rsalign.strategies.pool import STRATEGY, Pool, any_needs_reward, record, require_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """One of `n` independent draws of an inner strategy, the best unless `select` says otherwise.

    If a budget ends the run early, `select` chooses among the candidates that are finished by then.

    Notes: ``rewards`` of all candidates (0 where there is no reward); ``kl_estimate``, the mean of
    which bounds KL(law || law of an inner draw) from above, nats (`pool_kl`);
    ``effective_sample_size`` of the selection weights; and those of the selector, such as
    ``kl_formula``.

    Attributes:
        n: number of draws. With the same seed a larger `n` only adds draws.
        inner: the strategy that draws each candidate; measured, if `select` needs certainty.
        select: which candidate is the answer.

    Raises:
        ConfigError: if `n` is not at least 1, `inner` cannot sample, or `select` cannot select.
    """

    n: int = 4
    inner: Strategy = field(default_factory=Plain)
    select: Selector = field(default_factory=Hard)

    def __post_init__(self) -> None:
        check_settings(self, n=at_least(1), inner=STRATEGY, select=SELECTOR)
        require_fit(self, self.inner, self.select)

    @property
    def needs_reward(self) -> bool:
        """Whether the selector or the inner strategy does."""
        return any_needs_reward(self.inner, self.select)

    @property
    def varies_by_policy_alone(self) -> bool:
        """As the inner strategy."""
        return varies_by_policy_alone(self.inner)

    @property
    def cuts_answers(self) -> bool:
        """Whether the inner strategy does."""
        return cuts_answers(self.inner)

    @property
    def answer_law(self) -> AnswerLaw:
        """Known if each candidate is a draw of the policy."""
        if answer_law(self.inner) is not AnswerLaw.POLICY:
            return AnswerLaw.UNKNOWN
        return AnswerLaw.BEST_OF if picks(self.select) == HIGHEST_REWARD else AnswerLaw.POOL

    @property
    def independent_draws(self) -> int:
        """`n`, if each candidate is a draw of the policy."""
        return self.n if answer_law(self.inner) is AnswerLaw.POLICY else 0

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws n candidates and keeps the one that the selector chooses."""
        key = run.key.child("select")
        pool = Pool(prompt, run, self.inner, self.select, select_key=lambda _: key)
        await pool.draw(range(pool.distinct(self.n)))
        candidates, selection = await pool.choose()
        record(run.trace, candidates, selection)
        chosen = candidates[selection.index]
        run.trace.commit(chosen.tokens)
        return chosen
