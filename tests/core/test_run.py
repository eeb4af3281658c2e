import asyncio
import math

import pytest

from rsalign import ConfigError, Key, Message, Prompt, RewardError, Run, Sampling, Segment, Stop
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))


class Constant:
    def __init__(self, value):
        self.value = value

    async def score(self, prompt, response):
        return self.value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", None])
def test_a_reward_that_is_no_finite_number_is_refused(value):
    run = Run(ToyPolicy(), Constant(value), Key(0))
    with pytest.raises(RewardError, match="must be a finite number") as failed:
        asyncio.run(run.judge(PROMPT, (2, 0), Stop.EOS))
    assert failed.value.prompt == PROMPT
    assert failed.value.response.tokens == (2, 0)


def test_a_draft_bounds_the_whole_response():
    policy = ToyPolicy(40)

    async def main():
        run = Run(policy, ToyReward(), Key(0))
        first = await run.at("a").draft(PROMPT, (), max_tokens=4)
        kept = first.tokens[:2]
        longer = await run.at("b").draft(
            PROMPT, kept, max_tokens=6, kept_log_probs=first.response.log_probs[:2]
        )
        assert longer.tokens[:2] == kept
        assert len(longer.tokens) <= 6
        assert len(longer.response.log_probs) == len(longer.tokens)
        unknown = await run.at("b").draft(PROMPT, kept, max_tokens=6)
        assert unknown.response.log_probs is None
        assert unknown == longer

    asyncio.run(main())


def test_a_stop_string_is_not_part_of_the_text():
    class Stopping(ToyPolicy):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            return Segment((1, 1, 2), None, Stop.STOP, "2")

    draft = asyncio.run(Run(Stopping(), ToyReward(), Key(0)).draft(PROMPT, (), max_tokens=9))
    assert draft.response.text == "1 1 "
    assert draft.tokens == (1, 1, 2)
    assert draft.response.finished


def test_branches_have_traces_of_their_own():
    run = Run(ToyPolicy(), ToyReward(), Key(0))
    inner = run.branch("candidate", 1)
    inner.trace.commit((1,))
    assert run.trace.committed == ()
    assert run.trace.children["candidate", 1].committed == (1,)
    assert inner.key == run.at("candidate", 1).key


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"min_p": 2},
        {"stop": ("",)},
    ],
)
def test_impossible_laws_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_a_warning_is_kept_once_in_a_trace_and_once_in_all_of_them():
    run = Run(ToyPolicy(), ToyReward(), Key(0))
    inner = run.branch("candidate", 0)
    for text in ("one", "two", "one"):
        run.trace.warn(text)
        inner.trace.warn(text)
    assert run.trace.warnings == inner.trace.warnings == ["one", "two"]
    assert run.trace.all_warnings() == ("one", "two")
