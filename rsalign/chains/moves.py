"""Other moves of a chain, made in a share of the steps in place of a suffix redraw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.chains.kernel import Kernel, LogWeight, Step
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Certainty, Prompt


@runtime_checkable
class Move(Protocol):
    """A frozen dataclass that moves a chain, such as `rsalign.ParticleGibbs`.

    Laws: the move keeps pi(y) w(y) / Z invariant on responses of at most `max_tokens` tokens.

    Attributes:
        share: the probability that a step makes this move, 0 to 1.
    """

    @property
    def share(self) -> float:
        """The probability that a step makes this move, 0 to 1."""
        ...

    @property
    def needs_entropy(self) -> bool:
        """Whether it reads the certainty of a state, which the policy must be able to measure."""
        ...

    @property
    def drops_entropy(self) -> bool:
        """Whether the certainty of the state after the move may be unknown."""
        ...

    @property
    def parallel_draws(self) -> int:
        """Number of draws that it has open at once."""
        ...

    async def step(
        self, prompt: Prompt, state: Candidate, log_weight: LogWeight, run: Run, *, max_tokens: int
    ) -> Step:
        """Makes one step from a state.

        Args:
            prompt: what is answered.
            state: a complete response.
            log_weight: ln w.
            run: at an address that this step alone uses.
            max_tokens: greatest length of the whole response.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedKernel:
    """Draws for each step, at the address ``"move"``, which kernel makes it.

    Attributes:
        kernel: makes the steps that no other move makes.
        moves: the others; the sum of their shares is at most 1.
    """

    kernel: Kernel
    moves: tuple[Move, ...]

    @property
    def first_certainty(self) -> Certainty | None:
        """As `Kernel.first_certainty`, for all moves."""
        if any(move.needs_entropy for move in self.moves):
            return Certainty()
        return self.kernel.first_certainty

    async def step(self, prompt: Prompt, state: Candidate, log_weight: LogWeight, run: Run) -> Step:
        """Makes one step, as `Kernel.step`."""
        chosen = run.key.child("move").categorical(move_probs(self.moves))
        if chosen == 0:
            return await self.kernel.step(prompt, state, log_weight, run)
        move = self.moves[chosen - 1]
        return await move.step(prompt, state, log_weight, run, max_tokens=self.kernel.max_tokens)


def move_probs(moves: Sequence[Move]) -> tuple[float, ...]:
    """The probability of a suffix redraw, and of each move, ``(1 + moves,)``."""
    shares = [move.share for move in moves]
    return (max(0.0, 1.0 - math.fsum(shares)), *shares)
