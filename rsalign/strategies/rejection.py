"""Rejection: whole responses by rejection sampling under a declared bound of the reward.

Law      Let a(y) = min(1, exp((r(y) - bound) / beta)) and A = sum pi a. An accepted answer has the
         law pi(y) a(y) / A = pi(y) exp(min(r(y), bound) / beta) / Z. If no reward exceeds `bound`,
         this is exactly the tilted policy pi(y) exp(r(y) / beta) / Z; otherwise it is the tilted
         policy of the reward clipped at `bound` (quasi-rejection sampling). The note
         ``clipped_share`` is the share of the tested rewards above the bound. After `max_draws`
         rejections, which has probability (1 - A)^max_draws, one of the rejected responses is
         forced: it is drawn from them in proportion to exp(r / beta). Under a constraint a(y) = 0
         for what it excludes, which is never forced; if all are excluded, there is no answer.
Move     Draw whole responses, `at_once` at a time, and take the first that is accepted, in order.
Accept   exp((r - bound) / beta), at most 1.
Paper    von Neumann 1951; quasi-rejection: Eikema et al. 2022, arXiv:2206.05088, who give the
         total variation that clipping costs. Statistical rejection sampling with an *estimated*
         bound is a selector: `rsalign.selectors.StatisticalRejection`.
Cost     about 1 / A whole responses, at most `max_draws`. If the policy has one possible answer, it
         is drawn once and tested as often.
Streams  the answer as soon as it is accepted.
"""

from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import AnswerLaw
from rsalign.core.checks import POSITIVE_REWARD, REWARD, at_least, check_settings
from rsalign.core.run import Run, is_certain
from rsalign.core.tasks import until
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.selectors.estimators import tilted_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Draws exactly from pi exp(r / beta) / Z if no reward exceeds `bound`.

    If a budget ends the run early, the responses drawn until then are tested, and if none of them
    is accepted, one is forced as after `max_draws` rejections.

    Notes: ``num_tested``; ``acceptance_rate``; ``clipped_share``, the share of the tested responses
    whose reward exceeds the bound; ``forced``, whether the answer was not accepted.

    Attributes:
        beta: divides the reward, in its units, above 0.
        bound: in the reward's units; at least the greatest reward, for an exact law. A lower bound
            is cheaper by a factor of exp((greatest - bound) / beta), and rewards above it count as
            equal.
        max_tokens: greatest length of the response in tokens.
        max_draws: number of responses tested before one is forced.
        at_once: number of responses drawn at once. The first accepted *in order of index* is the
            answer, so that this changes the cost and not the answer.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Rejection(beta=0.5, bound=2.0, max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["forced"]
        False
    """

    beta: float
    bound: float
    max_tokens: int = 256
    max_draws: int = 64
    at_once: int = 4

    varies_by_policy_alone: ClassVar[bool] = True
    cuts_answers: ClassVar[bool] = False
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.REJECTION
    note_meanings: ClassVar[dict[str, str]] = {
        "num_tested": "responses",
        "acceptance_rate": "share of the tried that were accepted",
        "clipped_share": "share of rewards above the bound",
        "forced": "no response was accepted",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            beta=POSITIVE_REWARD,
            bound=REWARD,
            max_tokens=at_least(1),
            max_draws=at_least(1),
            at_once=at_least(1),
        )

    @property
    def parallel_draws(self) -> int:
        """The proposals of a round."""
        return self.at_once

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws and tests responses until one is accepted."""
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
            # test the others in order of index, as without a budget
            for index in sorted(drawn)[len(tested) :]:
                if accepted or accepts(index):
                    break
            if accepted:
                return tested[-1]
            return self._forced(tested, run)

        run.trace.answer_by(answer_so_far)
        while not accepted and len(tested) < self.max_draws:
            size = 1 if repeats else self.at_once
            tries = range(len(tested), min(len(tested) + size, self.max_draws))
            await until(map(attempt, tries), accepts)
            repeats = repeats or is_certain(tested[0].response)
        chosen = tested[-1] if accepted else self._forced(tested, run)
        clipped = sum(not draft.excluded and draft.reward > self.bound for draft in tested)
        run.trace.note(
            num_tested=len(tested),
            acceptance_rate=accepted / len(tested),
            clipped_share=clipped / len(tested),
            forced=not accepted and chosen is not None,
        )
        if chosen is None:
            return run.abstain(prompt, f"none of the {len(tested)} responses drawn is allowed")
        run.trace.commit(chosen.tokens)
        return chosen

    def _forced(self, tested: list[Candidate], run: Run) -> Candidate | None:
        allowed = [draft for draft in tested if not draft.excluded]
        if not allowed:
            return None
        probs = tilted_weights([draft.reward for draft in allowed], self.beta)
        index = run.key.child("forced").categorical(probs)
        run.record_proposal(allowed[index], verdict=Verdict.FORCED, prob=probs[index])
        return allowed[index]
