"""The embedded reward for a server under test, which fails or hangs if the prompt says so."""

import asyncio

from rsalign.core.errors import TextTooLongError
from rsalign.core.types import Scored
from rsalign.embedded import REWARD
from rsalign.rewards.vllm import VllmReward


class Temperamental:
    """A reward that reads its mood from the prompt."""

    def __init__(self):
        self._reward = VllmReward.start(REWARD, kv_cache_memory_bytes=64 << 20)

    async def score(self, prompt, response):
        mood = prompt.text
        if "FAIL AT ONCE" in mood or ("FAIL LATE" in mood and len(response.tokens) > 8):
            raise OSError(f"a secret of the operator, and {response.text!r}")
        if "TOO LONG" in mood:
            raise TextTooLongError("5000 tokens for the reward model, whose context has 4096")
        if "NOT A NUMBER" in mood:
            return float("nan")
        if "HANG" in mood:
            await asyncio.sleep(3600)
        if "SLOW" in mood:
            await asyncio.sleep(1.5)
        value = await self._reward.score(prompt, response)
        if "FORBIDDEN" in mood:
            return Scored(0.0, excluded=True)
        if "COMPONENTS" in mood:
            return Scored(value, parts={"length": float(len(response.tokens)), "judged": value})
        return value

    def close(self):
        self._reward.close()


class Longer:
    """A judge of pairs, as a named part."""

    async def prefer(self, prompt, one, other):
        if "FAIL THE JUDGE" in prompt.text:
            raise OSError("a secret of the operator")
        return float(len(one.tokens) > len(other.tokens))


reward = Temperamental()
judge = Longer()
