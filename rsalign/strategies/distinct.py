"""Distinct: n different answers, drawn without replacement, with weights that make means unbiased.

Law      Draws from pi are made until `n` different answers have been seen, or `max_draws` draws
         were made. Answers y_1, ..., y_n in the order in which they appear have the probability
         prod_i pi(y_i) / (1 - sum_{j<i} pi(y_j)), but for the cap. The weight w_i of an answer is
         the probability that it was drawn first, given the set of answers: for every f,
         E[sum_i w_i f(y_i)] = E_pi[f], exactly, for every n and every cap
         (`rsalign.selectors.without_replacement`). A selector that weighs is given these weights,
         so that votes estimate the same shares as votes of independent draws; `ByWeight` returns
         one draw of pi. Any other selector is shown each answer once: `Hard` is then the best of n
         different answers.
Paper    Murthy 1957; Kool et al. 2020, arXiv:2002.06043 (sampling sequences without replacement).
Departs  Answers are drawn by rejecting repeats, which needs no trie over prefixes and has the same
         law. The cap is part of the weights, so that it costs no bias.
Cost     a draw for each answer and each repeat: 1 / (1 - mass of the answers seen) draws for the
         next one, and a reward for each draw (`Cached` saves those of repeats). Worth it where the
         policy repeats itself: at low temperature, and for short answers.
Streams  at the end: any answer may win until all are drawn.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import TraceKind, needs_reward, tells_log_probs
from rsalign.core.checks import at_least, check_settings, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import innermost
from rsalign.core.run import Run, is_certain
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt, Tokens
from rsalign.selectors.by_reward import Hard
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.selectors.without_replacement import MOST_DIFFERENT, first_draw_weights
from rsalign.strategies.pool import require_no_certainty
from rsalign.strategies.weighed_pool import choose_weighed

_EXHAUSTED = 1e-6  # of the policy's mass; below it, another answer would take a million draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """Draws until `n` different answers have been seen; the selector weighs them exactly.

    Answers are different if their tokens are. The policy must tell log-probabilities. If a budget
    ends the run early, the selector chooses among the different answers that are finished by then,
    with weights as if the draws had ended there.

    Notes: ``num_draws``, repeats included; ``mass``, the probability of all answers seen under the
    policy; ``log_probs`` of the answers, nats; ``weights`` and ``rewards`` of the allowed ones;
    ``mean_reward``, the unbiased estimate of E_pi[reward] if none is excluded; and those of the
    selector.

    Attributes:
        n: number of different answers, at most 16.
        select: the selector that chooses among them.
        max_draws: greatest number of draws, at least `n`.
        max_tokens: greatest length of a response in tokens, EOS included.

    Raises:
        ConfigError: if a number is out of its range, or `select` needs certainties; in `sample`, if
            the policy tells no log-probabilities.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> with Aligner(ToyPolicy(), ToyReward(), Distinct(n=3, max_tokens=4)) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> round(sum(output.alignment.diagnostics["weights"]), 9)
        1.0
    """

    n: int = 8
    select: Selector = field(default_factory=Hard)
    max_draws: int = 64
    max_tokens: int = 256

    varies_by_policy_alone: ClassVar[bool] = True
    cuts_answers: ClassVar[bool] = False
    trace_kind: ClassVar[TraceKind] = "pool"
    note_meanings: ClassVar[dict[str, str]] = {
        "num_draws": "draws, repeats included",
        "mass": "probability under the policy of all answers that were seen",
        "weights": "of the allowed answers: their means are unbiased",
        "mean_reward": "unbiased estimate of the policy's mean reward",
        "num_excluded": "answers that a constraint does not allow",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            n=at_least(1, MOST_DIFFERENT),
            select=SELECTOR,
            max_draws=at_least(1, 256),
            max_tokens=at_least(1),
        )
        if self.max_draws < self.n:
            raise setting_error(self, "max_draws", f"a whole number of at least n={self.n}")
        require_no_certainty(self, self.select)

    @property
    def needs_reward(self) -> bool:
        """Whether the selector does."""
        return needs_reward(self.select)

    @property
    def parallel_draws(self) -> int:
        """Those of the first round."""
        return self.n

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws until n different answers are seen, and returns the one that is chosen."""
        if not tells_log_probs(innermost(run.policy)):
            raise ConfigError(
                f"Distinct: {type(innermost(run.policy)).__name__} does not tell the probability "
                "of what it draws under these sampling parameters: take temperature 1 without "
                "truncation, or an engine with logprobs_mode='processed_logprobs'"
            )
        drawn: dict[int, Candidate] = {}

        async def draw(i: int) -> None:
            here = run.at("draw", i)
            drawn[i] = await here.draft(prompt, (), max_tokens=self.max_tokens)

        async def answer_so_far() -> Candidate | None:
            return await self._choose(prompt, _different(drawn), len(drawn), run)

        run.trace.answer_by(answer_so_far)
        num, seen = 0, _different(drawn)
        wanted = 1 if run.has_one_answer(f"1 answer was drawn instead of {self.n}") else self.n
        while len(seen) < wanted and num < self.max_draws and _mass(seen) < 1 - _EXHAUSTED:
            ahead = range(num, min(num + wanted - len(seen), self.max_draws))
            await concurrently(draw(i) for i in ahead)
            num, seen = ahead.stop, _different(drawn)
        if len(seen) < wanted and not is_certain(drawn[0].response):
            run.trace.warn(
                f"{num} draws gave {len(seen)} different answers instead of {self.n}; their "
                "weights are right nevertheless"
            )
        chosen = await self._choose(prompt, seen, num, run)
        if chosen is None:
            return run.abstain(prompt, f"of {len(seen)} answers drawn none is allowed")
        run.trace.commit(chosen.tokens)
        return chosen

    async def _choose(
        self, prompt: Prompt, seen: list[Candidate], num_draws: int, run: Run
    ) -> Candidate | None:
        """Chooses among the allowed answers, and records all; None if none is allowed."""
        if not seen:
            return None
        ended = len(seen) == self.n or _mass(seen) >= 1 - _EXHAUSTED
        weights = first_draw_weights(
            [_prob(one) for one in seen],
            max_draws=self.max_draws if ended else num_draws,
            ended=ended,
        )
        run.trace.note(
            num_draws=num_draws,
            mass=_mass(seen),
            log_probs=tuple(math.fsum(one.response.log_probs or ()) for one in seen),
        )
        if not any(one.excluded for one in seen):
            terms = (w * one.reward for w, one in zip(weights, seen, strict=True))
            run.trace.note(mean_reward=math.fsum(terms))
        return await choose_weighed(prompt, seen, weights, self.select, run)


def _different(drawn: dict[int, Candidate]) -> list[Candidate]:
    """The different answers, in the order of the draws in which they appeared first."""
    found: dict[Tokens, Candidate] = {}
    for i in sorted(drawn):
        found.setdefault(drawn[i].tokens, drawn[i])
    return list(found.values())


def _prob(candidate: Candidate) -> float:
    if candidate.response.log_probs is None:
        raise ConfigError(
            "Distinct: a response has no log-probabilities; give a policy that tells them"
        )
    return math.exp(math.fsum(candidate.response.log_probs))


def _mass(seen: list[Candidate]) -> float:
    return math.fsum(map(_prob, seen))
