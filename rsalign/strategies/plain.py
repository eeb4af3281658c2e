"""Plain: one draw from the policy.

Law      pi(y|x) on responses of at most `max_tokens` tokens.
Cost     one request to the policy; one reward call if there is a reward.
Streams  at the end. The serving doors stream its tokens as they are drawn
         (`rsalign.core.capabilities.answers_in_one_draw`).
"""

from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import AnswerLaw
from rsalign.core.checks import at_least, check_settings
from rsalign.core.run import Run
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Certainty, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """One draw from the policy: the baseline that other strategies are compared with.

    Attributes:
        max_tokens: greatest length of the response in tokens, EOS included.
        measured: whether the response tells how certain the policy was of each token
            (`Response.certainty`). The policy must be able to tell (`Measuring`).

    Raises:
        ConfigError: if `max_tokens` is not at least 1.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy
        >>> with Aligner(ToyPolicy(4), None, Plain(max_tokens=5)) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> len(output.outputs[0].token_ids) <= 5
        True
    """

    max_tokens: int = 256
    measured: bool = False

    needs_reward: ClassVar[bool] = False
    varies_by_policy_alone: ClassVar[bool] = True
    cuts_answers: ClassVar[bool] = False
    answers_in_one_draw: ClassVar[bool] = True
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.POLICY
    independent_draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_settings(self, max_tokens=at_least(1))

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws one response from the policy and commits it."""
        drawn = await run.draft(
            prompt,
            (),
            max_tokens=self.max_tokens,
            kept_certainty=Certainty() if self.measured else None,
        )
        if drawn.excluded:
            run.record_proposal(drawn, verdict=Verdict.REJECTED, prob=0.0)
            return run.abstain(prompt, "the one response that was drawn is not allowed")
        run.record_proposal(drawn, verdict=Verdict.ACCEPTED)
        run.trace.commit(drawn.tokens)
        return drawn
