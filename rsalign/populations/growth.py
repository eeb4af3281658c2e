"""How a particle grows: draw a segment after its prefix, and bring its weight up to date."""

import math
from dataclasses import dataclass, replace

from rsalign.core.constraint import Constraint
from rsalign.core.protocols import Boundary
from rsalign.core.run import Run
from rsalign.core.segment_ends import place_boundary
from rsalign.core.text.response_text import read_response
from rsalign.core.types import Candidate, Certainty, Prompt, Response, Segment
from rsalign.populations.allowed_tokens import draw_segment
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
        tokens: draws one token at a time, without those that this constraint refuses
            (`rsalign.populations.allowed_tokens`); None: draws whole segments from the policy.
    """

    segmenter: Boundary
    twist: Twist
    target: Target
    measured: bool = False
    tokens: Constraint | None = None

    async def extend(self, prompt: Prompt, particle: Particle, run: Run) -> Particle:
        """Returns the particle with one more segment.

        If `tokens` allows nothing after it, it is returned as it is, with the weight 0.

        Args:
            prompt: what is answered.
            particle: an open one. Tokens drawn past its end are used up.
            run: at an address that this call alone uses.
        """
        log_weight = 0.0
        if self.tokens is None:
            candidate = await self.draw(prompt, particle.candidate, run)
        else:
            drawn, log_weight = await self._draw_allowed(prompt, particle, self.tokens, run)
            if drawn is None:
                return replace(particle, log_weight=-math.inf)
            candidate = drawn
        return particle.extended(
            candidate, await self.log_twist(prompt, candidate, run), log_weight
        )

    async def draw(self, prompt: Prompt, kept: Candidate | None, run: Run) -> Candidate:
        """Draws one segment from the policy after a prefix; None: the first segment."""
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
        """Ln psi of a prefix; of a complete answer ln w; minus infinity if it is excluded."""
        if candidate.excluded:
            return -math.inf
        if candidate.response.complete:
            return self.target.log_weight(candidate)
        return await self.twist.log_value(prompt, candidate, self.target, run.at("twist"))

    async def _draw_allowed(
        self, prompt: Prompt, particle: Particle, constraint: Constraint, run: Run
    ) -> tuple[Candidate | None, float]:
        """Draws an allowed segment and its weight; None if nothing is allowed."""
        kept = particle.tokens

        async def allows(drawn: Segment) -> bool:
            tokens = kept + drawn.tokens
            text, reasoning = read_response(
                run.policy, prompt, tokens, stop=drawn.stop, stop_reason=drawn.stop_reason
            )
            response = Response(
                tokens, text, drawn.stop, stop_reason=drawn.stop_reason, reasoning=reasoning
            )
            return await constraint.allows(prompt, response)

        prefix = prompt.tokens + kept
        drawn, log_weight, _ = await draw_segment(
            run.policy,
            prefix,
            allows,
            max_new_tokens=self.target.max_tokens - len(kept),
            boundary=place_boundary(self.segmenter, len(prefix)),
            key=run.key.child("draw"),
        )
        if drawn is None:
            return None, -math.inf
        before = particle.candidate.response.log_probs if particle.candidate else ()
        known = before is not None and drawn.log_probs is not None
        judged = await run.judge(
            prompt,
            kept + drawn.tokens,
            drawn.stop,
            stop_reason=drawn.stop_reason,
            log_probs=before + drawn.log_probs if known else None,  # type: ignore[operator]
        )
        return judged, log_weight
