"""One request and its answers, on the toy policy: what a budget leaves of some of them."""

import asyncio

import pytest

from rsalign import (
    BestOf,
    Budget,
    ConfigError,
    Key,
    Message,
    Plain,
    PolicyError,
    Prompt,
    RewardError,
)
from rsalign.aligner.requests import Request
from rsalign.core.tasks import concurrently
from rsalign.serve.observe import Observation
from rsalign.serve.prompt_job import PromptJob
from rsalign.serve.rules import StrategyRequest
from rsalign.serve.served_request import ServedRequest
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
STRATEGY = BestOf(n=2, inner=Plain(max_tokens=4))


class Stuck(ToyPolicy):
    """Draws nothing at addresses that begin with one of these."""

    def __init__(self, *stuck):
        super().__init__(4)
        object.__setattr__(self, "stuck", stuck)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        if key.path[:2] in self.stuck:
            await asyncio.Event().wait()
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


class Bad(ToyReward):
    """Below 0, which is no reason to put an answer behind one that has no reward."""

    def value(self, tokens):
        return super().value(tokens) - 9


def served_request(*, own=True, prompts=1):
    asked = StrategyRequest(name="best_of", strategy=STRATEGY, has_own_budget=own)
    return ServedRequest(asked=asked, num_prompts=prompts)


def job(policy, n, *, stream=False, own=True, served=None, **changes):
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
    served = served or served_request(own=own)
    served.begin_prompt(n)
    settings = {
        "degrades": False,
        "request_id": "a",
        "served": served,
        "request": Request(
            prompt=PROMPT, strategy=STRATEGY, policy=policy, n=n, budget=Budget(seconds=0.2)
        ),
        "params": SamplingParams(max_tokens=4, n=n, detokenize=False, output_kind=kind),
        "text": None,
        "tokenizer": None,
        "watch": lambda policy, on_tokens, headers: policy,
        "reward": Bad(),
        "key": Key(0),
        "first_choice": 0,
        "trace_headers": {},
        "parts": {},
    }
    return PromptJob(**settings | changes)


async def outputs(one):
    return [each async for each in one.stream_outputs(Observation(None, None, {}))]


def tokens(found):
    said = {}
    for output in found:
        for choice in output.outputs:
            said[choice.index] = said.get(choice.index, []) + list(choice.token_ids)
    return said


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_a_token_does_not_cost_the_others_theirs(stream):
    policy = Stuck(("sample", 1))
    found = asyncio.run(outputs(job(policy, 3, stream=stream)))
    said = tokens(found)
    assert sorted(said) == [0, 1, 2]
    assert sorted(map(bool, said.values())) == [False, True, True]
    if stream:
        assert not said[1]
    else:
        assert not said[2]  # best first
        assert [choice.finish_reason for choice in found[0].outputs][-1] == "length"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("own", "kind"), [(True, ConfigError), (False, PolicyError)])
def test_where_there_is_no_token_at_all_it_is_an_error(own, kind, stream):
    policy = Stuck(("sample", 0), ("sample", 1))
    with pytest.raises(kind, match="before the first token"):
        asyncio.run(outputs(job(policy, 2, own=own, stream=stream)))


def test_so_it_is_over_all_prompts_of_a_request():
    async def main(*policies):
        served = served_request(prompts=2)
        jobs = [job(policy, 1, served=served) for policy in policies]
        return await concurrently(map(outputs, jobs))

    stuck = Stuck(("candidate", 0), ("candidate", 1))
    (one,), (other,) = asyncio.run(main(ToyPolicy(4), stuck))
    assert one.outputs[0].token_ids
    assert not other.outputs[0].token_ids
    with pytest.raises(ConfigError, match="before the first token"):
        asyncio.run(main(stuck, stuck))
    assert Key(0).child("candidate", 0).path == ("candidate", 0)  # what `stuck` goes by


class Broken(ToyReward):
    async def score(self, prompt, response):
        raise RewardError("it does not answer")


@pytest.mark.parametrize("stream", [False, True])
def test_a_degraded_answer_is_a_plain_draw_that_says_so(stream):
    with pytest.raises(Exception, match="does not answer"):
        asyncio.run(outputs(job(ToyPolicy(4), 2, stream=stream, reward=Broken())))
    served = served_request()
    one = job(ToyPolicy(4), 2, stream=stream, served=served, reward=Broken(), degrades=True)
    said = tokens(asyncio.run(outputs(one)))
    assert len(said) == 2
    for result in served.results.values():
        assert result.reward is None
        assert "this is a plain draw" in " ".join(result.warnings)
