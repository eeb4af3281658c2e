"""ArithmeticSampling: n draws that are spread evenly over pi, for selectors that average.

Law      Each of the n answers has the law pi(y|x), but they are not independent: of n answers, the
         number that precede any given text in the order of token ids differs from n times its
         probability under pi by less than one, where independent draws differ by about sqrt(n).
         For every function f of an answer, the mean of f over the n answers has the expectation
         E_pi[f]; where f depends on an interval of texts (those that begin alike), its variance is
         at most of the order 1 / n^2 for each interval, in place of 1 / n. Answers that part only
         after many random tokens are not spread. The answer is what `select` chooses.
Paper    arithmetic sampling: Vilnis et al. 2023, arXiv:2210.15458.
Departs  Codes are turned by one uniform angle, so that each of them is exactly uniform; once a
         response is less probable than 2^-24, where a code has no bits left, the engine's own
         sampler goes on, and the law stays exact to any length (`rsalign.core.codes`).
Cost     n draws, all at once, as `BestOf`.
Streams  at the end: any candidate may win until all are drawn.
"""

from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import TraceKind, averages, needs_reward
from rsalign.core.checks import at_least, check_settings, quote
from rsalign.core.codes import MAX_SAMPLES, Code, CodeBook, with_code
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Policy, get_sampling
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.strategies.plain import Plain
from rsalign.strategies.pool import POOL_NOTES, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticSampling:
    """Draws `n` answers jointly by the codes of arithmetic sampling; `select` averages over them.

    The policy must be able to draw by codes (`rsalign.core.codes.DrawsByCode`): `VllmPolicy` over
    an engine that has our logits processor `Arithmetic`, as engines that rsalign starts have.

    Notes: those of `BestOf`.

    Attributes:
        select: a selector whose choice rests on means over the candidates, such as `MajorityVote`,
            `RewardWeightedVote` or `MinimumBayesRisk` (`rsalign.core.capabilities.averages`).
        n: number of draws. Another `n` has other codes, and so other draws.
        max_tokens: greatest length of a response in tokens, EOS included.

    Raises:
        ConfigError: if a number is out of its range, or `select` looks for an extreme, such as the
            highest reward, to which evenly spread draws are no use; in `sample`, if the policy
            cannot draw by codes.

    Example:
        >>> from rsalign import Aligner, LastNumber, MajorityVote
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = ArithmeticSampling(n=8, select=MajorityVote(extract=LastNumber()))
        >>> with Aligner(ToyPolicy(), None, strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> len(output.alignment.diagnostics["answers"])
        8
    """

    select: Selector
    n: int = 16
    max_tokens: int = 256

    varies_by_policy_alone: ClassVar[bool] = True
    cuts_answers: ClassVar[bool] = False
    trace_kind: ClassVar[TraceKind] = "pool"
    note_meanings: ClassVar[dict[str, str]] = POOL_NOTES

    def __post_init__(self) -> None:
        check_settings(self, select=SELECTOR, n=at_least(1, MAX_SAMPLES), max_tokens=at_least(1))
        if not averages(self.select):
            raise ConfigError(
                f"ArithmeticSampling(select={quote(self.select)}): evenly spread draws make means "
                "over the draws precise, and this selector looks for an extreme or for one draw, "
                "which gains nothing from them, or reads log-probabilities, which tokens that a "
                "code decides do not have: give a vote or MinimumBayesRisk (a selector of your own "
                "declares averages = True), or use BestOf"
            )

    @property
    def needs_reward(self) -> bool:
        """Whether the selector does."""
        return needs_reward(self.select)

    @property
    def parallel_draws(self) -> int:
        """All of them."""
        return self.n

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws the n answers and returns the one that the selector chooses."""
        select_key, seed = run.key.child("select"), run.key.child("codes").seed()
        book = CodeBook(n=self.n, seed=seed >> MAX_SAMPLES.bit_length())

        def coded(i: int) -> Policy:
            return with_code(run.policy, Code(book, i))

        pool = Pool(
            prompt,
            run,
            Plain(max_tokens=self.max_tokens),
            self.select,
            select_key=lambda _: select_key,
        )
        if not get_sampling(run.policy).is_point_mass:  # the one possible answer needs no code
            pool.policy_of = coded
        await pool.draw(range(pool.distinct(self.n)))
        return pool.answer(await pool.choose())
