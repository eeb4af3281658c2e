"""Several chains for one prompt: they run independently, each with its tempered replicas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.chains.board import Board
from rsalign.chains.history import History
from rsalign.chains.kernel import Kernel, LogWeight, Step
from rsalign.chains.metropolis import log_swap, tempered
from rsalign.chains.moves import MixedKernel
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Several chains for one prompt, each with a ladder of tempered replicas (parallel tempering).

    Replica j targets pi w^(1/f_j), with f_0 = 1. The greater f_j, the more of its proposals are
    accepted. Neighbours exchange states, so that responses found by a hot replica reach the replica
    at the target. The replicas of one chain wait for each other after each step; chains never wait
    for each other.

    Attributes:
        kernel: the move of all replicas.
        factors: f_j, ascending from 1; infinity is the policy itself.
        steps: greatest number of steps of each chain.
    """

    kernel: Kernel | MixedKernel
    factors: tuple[float, ...]
    steps: int

    async def run(
        self,
        prompt: Prompt,
        starts: Sequence[Sequence[Candidate]],
        log_weight: LogWeight,
        run: Run,
        board: Board,
    ) -> None:
        """Runs all chains to their end, or until the board says that they have done enough.

        Args:
            prompt: what is answered.
            starts: the first state of each replica of each chain, ``(chains, replicas)``.
            log_weight: ln w.
            run: the strategy's own; chain c runs at ``("chain", c)`` below it.
            board: receives the steps of the replicas at the target itself.
        """
        await concurrently(
            self._chain(
                prompt, first, log_weight, run.branch("chain", c), board.histories[c], board
            )
            for c, first in enumerate(starts)
        )

    async def _chain(
        self,
        prompt: Prompt,
        first: Sequence[Candidate],
        log_weight: LogWeight,
        run: Run,
        history: History,
        board: Board,
    ) -> None:
        states = list(first)
        runs = [run, *(run.branch("replica", j) for j in range(1, len(states)))]

        async def step(j: int, t: int) -> Step:
            def log_tempered(candidate: Candidate) -> float:
                return tempered(log_weight(candidate), self.factors[j])

            return await self.kernel.step(prompt, states[j], log_tempered, runs[j].at("step", t))

        for t in range(self.steps):
            if board.is_enough(t):
                return
            if t:
                self._exchange(states, log_weight, run.at("swap", t), history)
            taken = await concurrently(step(j, t) for j in range(len(states)))
            states = [one.state for one in taken]
            history.steps.append(taken[0])
            board.note_step(history)

    def _exchange(
        self, states: list[Candidate], log_weight: LogWeight, run: Run, history: History
    ) -> None:
        """One sweep of exchanges, the hottest pair first: a state can move down all the way."""
        for j in reversed(range(len(states) - 1)):
            log_prob = log_swap(
                log_weight(states[j]),
                log_weight(states[j + 1]),
                self.factors[j],
                self.factors[j + 1],
            )
            exchanged = run.key.child(j).bernoulli(math.exp(log_prob))
            if exchanged:
                states[j], states[j + 1] = states[j + 1], states[j]
            if j == 0:
                history.swaps.append(exchanged)
