"""A reward for sweeps in other processes that are killed before they are done."""

import asyncio
from dataclasses import dataclass

from rsalign.testing import ToyReward


@dataclass(frozen=True)
class SlowReward(ToyReward):
    """The toy reward, each value of which takes some time."""

    async def score(self, prompt, response):
        await asyncio.sleep(0.05)
        return await super().score(prompt, response)
