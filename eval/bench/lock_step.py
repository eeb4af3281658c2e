"""The same chains with a barrier, as the published code runs them; for comparison only.

In each step all chains of all prompts draw, and when the last draft is there all are judged; when
the last of them is judged the next step begins. Kernel, addresses and so the states are those of
`QAlign`; only the waiting is different.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsalign.core.key import Key
from rsalign.core.protocols import Policy, Reward
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.strategies.qalign import QAlign


@dataclass(slots=True)
class Gate:
    """A reward that answers no call before a given number of calls are waiting."""

    inner: Reward
    _missing: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, num_calls: int) -> None:
        """Makes calls wait until `num_calls` of them are here."""
        self._missing, self._open = num_calls, asyncio.Event()

    async def score(self, prompt: Prompt, response: Response) -> float:
        """Asks the inner reward, once all calls are here."""
        self._missing -= 1
        if self._missing == 0:
            self._open.set()
        await self._open.wait()
        return await self.inner.score(prompt, response)


async def lock_step(
    prompts: Sequence[Prompt],
    strategy: QAlign,
    *,
    policy: Policy,
    reward: Reward,
    keys: Sequence[Key],
) -> list[Candidate]:
    """Runs all chains in lock step; returns their last states, ``(prompts * chains,)``.

    Args:
        prompts: all are answered together.
        strategy: steps, chains, candidates and the kernel; what comes after the chains is left out.
        policy: draws.
        reward: judges.
        keys: of each prompt's run, ``(prompts,)``.
    """
    gate = Gate(reward)
    chains = [
        (prompt, run.branch("chain", c), run.at("start", c))
        for prompt, run in zip(prompts, (Run(policy, gate, key) for key in keys), strict=True)
        for c in range(strategy.chains)
    ]
    gate.close(len(chains))
    states = await concurrently(
        first.draft(prompt, (), max_tokens=strategy.max_tokens, kept_log_probs=())
        for prompt, _, first in chains
    )
    for t in range(strategy.steps):
        gate.close(len(chains) * strategy.candidates)
        steps = await concurrently(
            strategy.step(prompt, state, run.at("step", t))
            for (prompt, run, _), state in zip(chains, states, strict=True)
        )
        states = [step.state for step in steps]
    return states
