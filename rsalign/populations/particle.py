"""Particles: prefixes of answers with weights, and what is computed from the weights alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rsalign.core.trace import Note, Trace
from rsalign.core.types import Candidate, Tokens
from rsalign.selectors.estimators import effective_sample_size


@dataclass(frozen=True, slots=True)
class Particle:
    """A prefix of an answer, or a complete answer, with its weight.

    Attributes:
        candidate: what was drawn so far; None if nothing was.
        ends: number of tokens at the end of each segment, ascending, ``(segments,)``.
        log_twist: ln psi of the prefix; 0 if nothing was drawn. Of a complete answer it is ln w.
        log_weight: logarithm of the weight that the particle has collected, nats; minus infinity if
            the target excludes it.

    Example:
        >>> Particle().is_open, Particle().tokens
        (True, ())
    """

    candidate: Candidate | None = None
    ends: tuple[int, ...] = ()
    log_twist: float = 0.0
    log_weight: float = 0.0

    @property
    def tokens(self) -> Tokens:
        """The tokens drawn so far."""
        return self.candidate.tokens if self.candidate else ()

    @property
    def is_complete(self) -> bool:
        """Whether no token may follow."""
        return self.candidate is not None and self.candidate.response.complete

    @property
    def is_open(self) -> bool:
        """Whether it must still be drawn on: it is not complete, and the target allows it."""
        return not self.is_complete and self.log_weight > -math.inf

    def extended(
        self, candidate: Candidate, log_twist: float, log_correction: float = 0.0
    ) -> "Particle":
        """The particle with one more segment; its weight is multiplied by psi(new) / psi(old).

        Args:
            candidate: the longer prefix.
            log_twist: ln psi of it.
            log_correction: ln of the weight that the draw itself had, if it was not from pi.
        """
        return Particle(
            candidate,
            (*self.ends, len(candidate.tokens)),
            log_twist,
            self.log_weight + log_correction + log_twist - self.log_twist,
        )

    def without_beyond(self) -> "Particle":
        """The particle without the tokens that were drawn past its end: they may be used once."""
        if self.candidate is None or self.candidate.response.beyond is None:
            return self
        response = replace(self.candidate.response, beyond=None)
        return replace(self, candidate=Candidate(response, self.candidate.reward))


def log_mean_exp(logs: Sequence[float]) -> float:
    """Ln of the mean of exp; minus infinity if all are.

    Example:
        >>> log_mean_exp((0.0, 0.0)), log_mean_exp((-math.inf,))
        (0.0, -inf)
    """
    highest = max(logs)
    if highest == -math.inf:
        return -math.inf
    return highest + math.log(math.fsum(math.exp(log - highest) for log in logs) / len(logs))


def normalised(logs: Sequence[float]) -> tuple[float, ...]:
    """Weights that sum to 1, from their logarithms; all zero if all logarithms are minus infinity.

    Example:
        >>> normalised((1000.0, 1000.0)), normalised((-math.inf,))
        ((0.5, 0.5), (0.0,))
    """
    highest = max(logs)
    if highest == -math.inf:
        return (0.0,) * len(logs)
    weights = [math.exp(log - highest) for log in logs]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def sample_size(weights: Sequence[float]) -> float:
    """The number of equal weights that these are worth; 0 if all are zero."""
    return effective_sample_size(weights) if any(weights) else 0.0


def commit_shared(possible: Sequence[Tokens], trace: Trace) -> None:
    """Streams the tokens that all possible answers begin with, as far as they are new."""
    new = shared_prefix(possible)[len(trace.committed) :]
    if new:
        trace.commit(new)


def shared_prefix(many: Sequence[Tokens]) -> Tokens:
    """The tokens with which all of these begin.

    Example:
        >>> shared_prefix([(1, 2, 3), (1, 2), (1, 2, 4)])
        (1, 2)
    """
    shared = []
    for column in zip(*many, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return tuple(shared)


POPULATION_NOTES = {
    "num_rounds": "segments of the longest particle",
    "num_resamplings": "rounds after which the particles were resampled",
    "effective_sample_size": "independent draws from the target that the last weights are worth",
    "ess_by_round": "the same before each resampling",
    "ancestors": "number of the particle that each continues, round by round",
    "log_weights": "of all particles after each round, nats",
    "log_z": "estimates ln Z = ln E[w] of the policy; exp of it is unbiased",
    "kl": "estimates KL(target || policy), nats",
    "num_excluded": "particles that the constraint or the target excludes",
}
"""What the notes of a population mean (`rsalign.core.capabilities.note_meanings`)."""


def final_notes(particles: Sequence[Particle]) -> dict[str, Note]:
    """The notes that depend on the last weights alone."""
    logs = [particle.log_weight for particle in particles]
    weights, log_z = normalised(logs), log_mean_exp(logs)
    log_w = [weight * p.log_twist for weight, p in zip(weights, particles, strict=True) if weight]
    return {
        "effective_sample_size": sample_size(weights),
        "log_z": log_z if log_z > -math.inf else None,
        "kl": math.fsum(log_w) - log_z if log_z > -math.inf else None,
        "num_excluded": sum(log == -math.inf for log in logs),
    }
