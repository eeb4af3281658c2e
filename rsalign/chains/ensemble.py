"""Chains side by side: free-running, each with the replicas that it exchanges states with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.chains.board import Board
from rsalign.chains.history import History
from rsalign.chains.kernel import Kernel, LogWeight, Step
from rsalign.chains.metropolis import log_swap, tempered
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Several chains for one prompt, each a ladder of tempered replicas.

    Replica j targets pi w^(1/f_j), with f_0 = 1. The greater f_j, the more of its proposals are
    accepted, and neighbours exchange states, so that what a hot replica finds reaches the cold one.
    The replicas of one chain wait for each other; chains wait for nobody.

    Attributes:
        kernel: the move of all replicas.
        factors: f_j, ascending from 1; infinity is the policy itself.
        steps: greatest number, of each chain.
    """

    kernel: Kernel
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
        """Runs all chains to their end, or until the board says that it is enough.

        Args:
            prompt: what is answered.
            starts: a first state for each replica of each chain, ``(chains, replicas)``.
            log_weight: ln w.
            run: chain c runs at ``("chain", c)`` below it.
            board: gets what happens at the target itself.
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
            board.advanced()

    def _exchange(
        self, states: list[Candidate], log_weight: LogWeight, run: Run, history: History
    ) -> None:
        """One sweep over neighbours, the hottest first, so that a state can pass all of them."""
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
