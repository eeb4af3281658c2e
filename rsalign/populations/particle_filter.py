"""The rounds of sequential Monte Carlo: draw a segment, weigh, resample."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Note, Verdict
from rsalign.core.types import Prompt
from rsalign.populations.growth import Growth
from rsalign.populations.particle import (
    Particle,
    commit_shared,
    final_notes,
    log_mean_exp,
    normalised,
    sample_size,
)
from rsalign.populations.rejuvenation import Rejuvenation
from rsalign.populations.resampling import Resampling


@dataclass(slots=True, kw_only=True)
class ParticleFilter:
    """N particles of one prompt.

    For any number of particles, rule of resampling and threshold the mean of
    exp(log_weight) f(answer), averaged over the particles, is sum_y pi(y) w(y) f(y). A complete
    particle is drawn no more and its weight does not change by itself; it is resampled like the
    others. The particles of one prompt wait for each other before they are resampled, and those of
    different prompts never do.

    Attributes:
        prompt: what is answered.
        run: the run of the strategy that owns the particles.
        growth: how a particle grows.
        n: number of particles.
        resample: the rule of resampling.
        ess_threshold: the particles are resampled if their effective sample size is below this
            share of their number.
        rejuvenation: moves of the open particles in each round; None: there are none.
        particles: the latest state of each.
    """

    prompt: Prompt
    run: Run
    growth: Growth
    n: int
    resample: Resampling
    ess_threshold: float
    rejuvenation: Rejuvenation | None = None
    particles: list[Particle] = field(init=False)
    _ancestors: list[int] = field(init=False, default_factory=list)
    _log_weights: list[float] = field(init=False, default_factory=list)
    _sizes: list[float] = field(init=False, default_factory=list)
    _num_resamplings: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.particles = [Particle()] * self.n

    async def run_rounds(self) -> None:
        """Draws until no particle is open."""
        number = 0
        while any(particle.is_open for particle in self.particles):
            await self._round(number)
            number += 1
        self.run.trace.note(**self.notes())

    def notes(self) -> dict[str, Note]:
        """What is known of the population so far (`POPULATION_NOTES`)."""
        return final_notes(self.particles) | {
            "num_rounds": max(len(particle.ends) for particle in self.particles),
            "num_resamplings": self._num_resamplings,
            "ess_by_round": tuple(self._sizes),
            "ancestors": tuple(float(i) for i in self._ancestors),
            "log_weights": tuple(self._log_weights),
        }

    async def _round(self, number: int) -> None:
        here = self.run.at("round", number)
        before = list(self.particles)

        async def grow(i: int) -> None:
            # written at once, so that a run that is ended early knows what was drawn
            particle = self.particles[i]
            self.particles[i] = await self.growth.extend(
                self.prompt, particle, here.at("particle", i)
            )

        await concurrently(grow(i) for i, particle in enumerate(before) if particle.is_open)
        logs = [particle.log_weight for particle in self.particles]
        weights = normalised(logs)
        size = sample_size(weights)
        self._sizes.append(size)
        self._log_weights += logs
        grown = [i for i in range(self.n) if self.particles[i].ends != before[i].ends]
        resamples = (
            any(particle.is_open for particle in self.particles)
            and size < self.ess_threshold * self.n
        )
        ancestors = tuple(range(self.n))
        if resamples:
            ancestors = self.resample.ancestors(weights, here.key.child("resample"))
            self._num_resamplings += 1
        self._ancestors += ancestors
        self._record(grown, before, set(ancestors), number)
        if resamples:
            self._take(ancestors, log_mean_exp(logs))
        if self.rejuvenation is not None:
            await self._rejuvenate(self.rejuvenation, here)
        self._commit()

    async def _rejuvenate(self, rejuvenation: Rejuvenation, here: Run) -> None:
        async def move(i: int) -> None:
            self.particles[i] = await rejuvenation.move(
                self.prompt, self.particles[i], here.at("moved", i)
            )

        await concurrently(move(i) for i in range(self.n) if self.particles[i].is_open)

    def _take(self, ancestors: Sequence[int], log_weight: float) -> None:
        """Copies the chosen particles; all of them then have the mean of the weights."""
        taken: list[Particle] = []
        for place, i in enumerate(ancestors):
            particle = replace(self.particles[i], log_weight=log_weight)
            # ancestors are in ascending order: all but the first copy follow their equals
            is_copy = place > 0 and ancestors[place - 1] == i
            taken.append(particle.without_beyond() if is_copy else particle)
        self.particles = taken

    def _record(
        self, grown: Sequence[int], before: Sequence[Particle], alive: set[int], number: int
    ) -> None:
        for i in grown:
            particle = self.particles[i]
            assert particle.candidate is not None  # it has just grown
            self.run.record_proposal(
                particle.candidate,
                verdict=Verdict.ACCEPTED if i in alive else Verdict.REJECTED,
                kept=len(before[i].tokens),
                address=self.run.key.child("round", number, "particle", i).path,
            )

    def _commit(self) -> None:
        """Streams what all particles that may still be the answer begin with."""
        if self.rejuvenation is not None:  # a move may draw the first segments anew
            return
        possible = [p.tokens for p in self.particles if p.log_weight > -math.inf]
        commit_shared(possible, self.run.trace)
