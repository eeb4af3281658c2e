"""How a particle grows: draw a segment after its prefix, and bring its weight up to date."""

from dataclasses import dataclass

from rsalign.core.protocols import Boundary
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Certainty, Prompt
from rsalign.populations.particle import Particle
from rsalign.populations.twists import Target, Twist


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Draws segments from the policy and weighs the prefixes that end with them.

    Attributes:
        segmenter: where segments end.
        twist: values open prefixes.
        target: values complete answers.
        measured: whether the certainty of the policy is measured at each token.
    """

    segmenter: Boundary
    twist: Twist
    target: Target
    measured: bool = False

    async def extend(self, prompt: Prompt, particle: Particle, run: Run) -> Particle:
        """Returns the particle with one more segment.

        Args:
            prompt: what is answered.
            particle: an open one. Tokens drawn past its end are used up.
            run: at an address that this call alone uses.
        """
        candidate = await self.draw(prompt, particle.candidate, run)
        return particle.extended(candidate, await self.log_twist(prompt, candidate, run))

    async def draw(self, prompt: Prompt, kept: Candidate | None, run: Run) -> Candidate:
        """Draws one segment after a prefix; None: the first segment."""
        if kept is None:
            return await run.draft(
                prompt,
                (),
                max_tokens=self.target.max_tokens,
                boundary=self.segmenter,
                kept_certainty=Certainty() if self.measured else None,
            )
        return await run.draft(
            prompt,
            kept.tokens,
            max_tokens=self.target.max_tokens,
            boundary=self.segmenter,
            kept_log_probs=kept.response.log_probs,
            kept_certainty=kept.response.certainty if self.measured else None,
            ahead=kept.response.beyond,
        )

    async def log_twist(self, prompt: Prompt, candidate: Candidate, run: Run) -> float:
        """Ln psi of a prefix; of a complete answer ln w."""
        if candidate.response.complete:
            return self.target.log_weight(candidate)
        return await self.twist.log_value(prompt, candidate, self.target, run.at("twist"))
