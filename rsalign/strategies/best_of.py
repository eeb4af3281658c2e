"""BestOf: n independent draws, of which a selector chooses one.

Law      By default the highest reward is chosen (`Hard`, the first among equals). The response y
         then has probability F(r(y))^n - F(r(y)-)^n, split among responses of equal reward in
         proportion to their probability, where F is the distribution function of the reward of one
         inner draw and F(r-) its left limit (order statistics). For inner draws from pi:
         KL(law || pi) <= ln n - (n - 1) / n, with equality if no two rewards are equal and no
         response has much mass (Beirami et al. 2024, arXiv:2401.01879).
         Any other choice is a selector, which states its own law given the pool:
         `rsalign.selectors`.
         With a constraint F is that of the allowed draws, and their number k replaces n: it is
         binomial, and k = 0 is an abstention (`rsalign.strategies.pool.Pool`).
Paper    Stiennon et al. 2020, arXiv:2009.01325; Nakano et al. 2021, arXiv:2112.09332.
Cost     n inner draws, all at once; the prefix cache shares the prompt. The selector adds its own
         cost: none, except for `Knockout`. If the policy has one possible answer, one draw.
Streams  at the end: any candidate may win until all are drawn.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.allocation.rules import Drawn
from rsalign.core.capabilities import (
    HIGHEST_REWARD,
    AnswerLaw,
    TraceKind,
    answer_law,
    cuts_answers,
    parallel_draws,
    picks,
    varies_by_policy_alone,
)
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import Strategy
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.by_reward import Hard
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.strategies.plain import Plain
from rsalign.strategies.pool import POOL_NOTES, STRATEGY, Pool, any_needs_reward, require_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """Draws `n` independent candidates and returns the one that `select` chooses.

    If a budget ends the run early, `select` chooses among the candidates that are finished by then
    (`rsalign.strategies.pool.Pool`).

    Notes: ``rewards`` of all candidates (0 where there is no reward); ``kl_estimate`` in nats,
    whose mean bounds KL(law || law of an inner draw) from above (`pool_kl`);
    ``effective_sample_size`` of the selection probabilities; ``num_unjudged`` if the run was ended
    early; and those of the selector, such as ``kl_formula``.

    Attributes:
        n: number of draws. With the same seed a larger `n` only adds draws.
        inner: the strategy that draws each candidate. It measures certainty if `select` needs that.
        select: the selector that chooses the answer.

    Raises:
        ConfigError: if `n` is not at least 1, `inner` cannot sample, or `select` cannot select.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = BestOf(n=4, inner=Plain(max_tokens=8))
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.outputs[0].reward == max(output.alignment.diagnostics["rewards"])
        True
    """

    n: int = 4
    inner: Strategy = field(default_factory=Plain)
    select: Selector = field(default_factory=Hard)

    trace_kind: ClassVar[TraceKind] = "pool"
    note_meanings: ClassVar[dict[str, str]] = POOL_NOTES

    def __post_init__(self) -> None:
        check_settings(self, n=at_least(1), inner=STRATEGY, select=SELECTOR)
        require_fit(self, self.inner, self.select)

    @property
    def needs_reward(self) -> bool:
        """Whether the selector or the inner strategy needs a reward."""
        return any_needs_reward(self.inner, self.select)

    @property
    def varies_by_policy_alone(self) -> bool:
        """Whether this holds for the inner strategy."""
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

    @property
    def parallel_draws(self) -> int:
        """Those of all candidates."""
        return self.n * parallel_draws(self.inner)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws n candidates and returns the one that the selector chooses."""
        pool = self._pool(prompt, run)
        await pool.draw(range(pool.distinct(self.n)))
        return pool.answer(await pool.choose())

    async def sample_granted(
        self, prompt: Prompt, run: Run, more: Callable[[Drawn], Awaitable[int]]
    ) -> Candidate:
        """Draws as many candidates as it is granted, whatever `n` is.

        Args:
            prompt: what is answered.
            run: of this prompt.
            more: is told what was drawn, and returns how many more draws there are; 0: none.
        """
        pool, num_drawn = self._pool(prompt, run), 0
        while granted := await more(pool.drawn()):
            until = min(num_drawn + granted, pool.distinct(num_drawn + granted))
            await pool.draw(range(num_drawn, until))
            if until < num_drawn + granted:  # the policy has one answer, which is drawn
                num_drawn = max(until, num_drawn)
                break
            num_drawn = until
        run.trace.note(num_draws=num_drawn)
        return pool.answer(await pool.choose())

    def _pool(self, prompt: Prompt, run: Run) -> Pool:
        key = run.key.child("select")
        return Pool(prompt, run, self.inner, self.select, select_key=lambda _: key)
