"""Rejuvenation: open particles, which may be copies, are moved by the chains' own kernel.

After t rounds the particles are weighed draws from pi_t psi / Z_t, where pi_t is the policy's law
of the first t segments. A move cuts an open particle at the start of one of its segments, draws the
rest anew, up to t segments, and accepts it as a step of `QAlign` does, provided that it is open,
too. This keeps pi_t psi invariant, so that the weights stay right.

Moves are made in every round and by open particles only. An invariant move may not depend on the
other particles: moves after resampling alone, or as long as some particle is open, would bias the
estimate, since both are decided by the weights.

Paper    resample-move: Gilks and Berzuini 2001.
"""

import math
from dataclasses import dataclass, replace

from rsalign.chains.kernel import choose
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.growth import Growth
from rsalign.populations.particle import Particle


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejuvenation:
    """Moves of one particle.

    Attributes:
        growth: how particles grow.
        moves: number of moves of each particle.
    """

    growth: Growth
    moves: int

    async def move(self, prompt: Prompt, particle: Particle, run: Run) -> Particle:
        """Returns the particle after all moves; its weight stays.

        Args:
            prompt: what is answered.
            particle: an open one with at least one segment.
            run: at an address that this call alone uses.
        """
        for i in range(self.moves):
            particle = await self._step(prompt, particle, run.at("move", i))
        return particle

    async def _step(self, prompt: Prompt, particle: Particle, run: Run) -> Particle:
        state = particle.candidate
        assert state is not None  # it has at least one segment
        number = run.key.child("cut").below(len(particle.ends))
        ends = particle.ends[:number]
        cut = ends[-1] if ends else 0
        log_probs = state.response.log_probs
        kept = replace(
            state.response,
            tokens=state.tokens[:cut],
            log_probs=None if log_probs is None else log_probs[:cut],
            beyond=None,
        )
        drawn: Candidate | None = Candidate(kept, 0.0) if cut else None
        for j in range(number, len(particle.ends)):
            drawn = await self.growth.draw(prompt, drawn, run.at("try", 0, "segment", j))
            ends = (*ends, len(drawn.tokens))
            if drawn.response.complete:
                break
        assert drawn is not None  # the cut is before the last segment
        log_twist = -math.inf
        if not drawn.response.complete:
            log_twist = await self.growth.log_twist(prompt, drawn, run)
        proposal = replace(particle, candidate=drawn, ends=ends, log_twist=log_twist)
        # all open particles have as many segments: the law of the cut cancels
        log_worths = (particle.log_twist, log_twist)
        step = choose("multi_try", (state, drawn), log_worths, cut=cut, run=run)
        return proposal if step.moved else particle
