"""Rejection: whole responses by rejection sampling under a declared bound.

Law      Let a(y) = min(1, exp((r(y) - bound) / beta)) and A = sum pi a. An accepted answer has the
         law pi(y) a(y) / A = pi(y) exp(min(r(y), bound) / beta) / Z: exactly the tilted policy
         pi(y) exp(r(y) / beta) / Z if no reward exceeds `bound`, and otherwise the tilted policy of
         the reward clipped there (quasi-rejection sampling). The share of the drawn rewards above
         the bound comes back as ``clipped_share``. After `max_draws` rejections, with probability
         (1 - A)^max_draws, one of them is forced: as tilted resampling of these draws.
Move     Draw whole responses, `at_once` at a time, accept the first in order.
Accept   exp((r - bound) / beta), at most 1.
Paper    von Neumann 1951; quasi-rejection: Eikema et al. 2022, arXiv:2206.05088, who give the
         total variation that clipping costs. Statistical rejection sampling with an *estimated*
         bound is a selector: `rsalign.selectors.StatisticalRejection`.
Cost     about 1 / A whole responses, at most `max_draws`; one where the policy has one possible
         answer, which is then tested as often.
Streams  the answer once it is accepted.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.likelihood import is_certain
from rsalign.core.capabilities import AnswerLaw
from rsalign.core.checks import POSITIVE_REWARD, REWARD, at_least, check_settings
from rsalign.core.run import Run
from rsalign.core.tasks import until
from rsalign.core.trace import Proposal, Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.selectors.estimators import tilted_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An exact draw from pi exp(r / beta) if `bound` is one.

    If a budget ends the run early, what was drawn is tested, and if none of it is accepted, one is
    forced as after `max_draws` rejections.

    Notes: ``num_tested``; ``acceptance_rate``; ``clipped_share`` of the tested whose reward exceeds
    the bound; ``forced``.

    Attributes:
        beta: divides the reward, in its units, above 0.
        bound: at least the greatest reward, for an exact law; in the reward's units. A lower one is
            cheaper by exp((greatest - bound) / beta) and no longer tells rewards above it apart.
        max_tokens: bounds the response.
        max_draws: responses tested before one is forced.
        at_once: responses drawn at once; the first accepted *in order of index* is the answer, so
            this changes cost and not the answer.

    Raises:
        ConfigError: if a setting is out of its range.
    """

    varies_by_policy_alone: ClassVar[bool] = True
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.REJECTION

    beta: float
    bound: float
    max_tokens: int = 256
    max_draws: int = 64
    at_once: int = 4

    cuts_answers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            beta=POSITIVE_REWARD,
            bound=REWARD,
            max_tokens=at_least(1),
            max_draws=at_least(1),
            at_once=at_least(1),
        )

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws until one is accepted."""
        acceptance = SoftAcceptance(beta=self.beta)
        drawn: dict[int, Candidate] = {}
        tested: list[Candidate] = []
        accepted = False
        repeats = run.has_one_answer(f"it was drawn once, and not up to {self.max_draws} times")

        async def attempt(index: int) -> int:
            # the one possible answer need not be drawn again
            drawn[index] = (
                drawn[0]
                if repeats and index
                else await run.at("try", index).draft(prompt, (), max_tokens=self.max_tokens)
            )
            return index

        def accepts(index: int) -> bool:
            nonlocal accepted
            draft = drawn[index]
            tested.append(draft)
            log_accept = acceptance.log_accept(draft.reward, self.bound)
            accepted = run.at("try", index).decide(draft, kept=0, log_accept=log_accept)
            return accepted

        async def answer_so_far() -> Candidate | None:
            # the others in order of index, as they would have been tested
            for index in sorted(drawn)[len(tested) :]:
                if accepted or accepts(index):
                    break
            if accepted:
                return tested[-1]
            return self._forced(tested, run) if tested else None

        run.trace.answer_by(answer_so_far)
        while not accepted and len(tested) < self.max_draws:
            size = 1 if repeats else self.at_once
            tries = range(len(tested), min(len(tested) + size, self.max_draws))
            await until(map(attempt, tries), accepts)
            repeats = repeats or is_certain(tested[0].response)
        chosen = tested[-1] if accepted else self._forced(tested, run)
        run.trace.note(
            num_tested=len(tested),
            acceptance_rate=accepted / len(tested),
            clipped_share=sum(draft.reward > self.bound for draft in tested) / len(tested),
            forced=not accepted,
        )
        run.trace.commit(chosen.tokens)
        return chosen

    def _forced(self, tested: list[Candidate], run: Run) -> Candidate:
        probs = tilted_weights([draft.reward for draft in tested], self.beta)
        index = run.key.child("forced").categorical(probs)
        run.trace.propose(
            Proposal(
                candidate=tested[index],
                kept=0,
                log_accept=math.log(probs[index]),
                verdict=Verdict.FORCED,
            )
        )
        return tested[index]
