"""Plain: one draw from the policy.

Law      pi(y|x) on responses of at most max_tokens.
Cost     one extension; one reward call if there is a reward.
Streams  at the end (one request).
"""

from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import AnswerLaw
from rsalign.core.checks import at_least, check_settings
from rsalign.core.run import Run
from rsalign.core.trace import Proposal, Verdict
from rsalign.core.types import Candidate, Certainty, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """One draw from the policy: the baseline that every table needs.

    Attributes:
        max_tokens: bounds the response, EOS included.
        measured: whether the response tells how certain the policy was of each token
            (`Response.certainty`), which takes a policy that can tell.

    Raises:
        ConfigError: if `max_tokens` is not at least 1.
    """

    max_tokens: int = 256
    measured: bool = False

    needs_reward: ClassVar[bool] = False
    varies_by_policy_alone: ClassVar[bool] = True
    cuts_answers: ClassVar[bool] = False
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.POLICY
    independent_draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_settings(self, max_tokens=at_least(1))

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws from pi."""
        drawn = await run.draft(
            prompt,
            (),
            max_tokens=self.max_tokens,
            kept_certainty=Certainty() if self.measured else None,
        )
        run.trace.propose(
            Proposal(candidate=drawn, kept=0, log_accept=0.0, verdict=Verdict.ACCEPTED)
        )
        run.trace.commit(drawn.tokens)
        return drawn
