"""What becomes of an answer whose reward fails is said in the same way for every method."""

import asyncio

import pytest

from rsalign import Aligner, BestOf, Plain, RewardError
from rsalign.testing import ToyPolicy, ToyReward


class Reading(ToyPolicy):
    """A toy policy that renders conversations."""

    def encode_chat(self, messages, **_):
        return self.encode(messages[-1].content)


class SecondFails(ToyReward):
    """Judges all candidates but the second."""

    async def score(self, prompt, response):
        if response.address[-2:] == ("candidate", 1):
            raise ValueError("busy")
        return await super().score(prompt, response)


MESSAGES = [{"role": "user", "content": "1 2"}]


async def streamed(aligner, **given):
    *_, last = [event async for event in aligner.astream("1 2", **given)]
    return [last.output]


METHODS = {
    "generate": lambda aligner, **given: aligner.generate("1 2", **given),
    "chat": lambda aligner, **given: aligner.chat(MESSAGES, **given),
    "agenerate": lambda aligner, **given: asyncio.run(aligner.agenerate("1 2", **given)),
    "achat": lambda aligner, **given: asyncio.run(aligner.achat(MESSAGES, **given)),
    "astream": lambda aligner, **given: asyncio.run(streamed(aligner, **given)),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_call_says_what_becomes_of_it(method):
    answer = METHODS[method]
    strategy = BestOf(n=2, inner=Plain(max_tokens=4))
    with Aligner(Reading(), SecondFails(), strategy) as aligner:
        with pytest.raises(RewardError, match="busy"):
            answer(aligner)
        (output,) = answer(aligner, on_reward_error="best")
        assert output.alignment.expired
        assert output.alignment.diagnostics["reward_failed"]
    with Aligner(Reading(), SecondFails(), strategy, on_reward_error="best") as aligner:
        with pytest.raises(RewardError, match="busy"):
            answer(aligner, on_reward_error="fail")
        assert answer(aligner)[0].alignment.expired
