"""One bad prompt or failed reward does not lose the others' finished work."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsalign import (
    Aligner,
    BestOf,
    Budget,
    ConfigError,
    Plain,
    PolicyError,
    RewardError,
    RsalignError,
)
from rsalign.testing import ToyPolicy, ToyReward

BEST = BestOf(n=3, inner=Plain(max_tokens=4))


class FailsOnTwo(ToyReward):
    async def score(self, prompt, response):
        if prompt.tokens == (2,):
            await asyncio.sleep(0.05)
            raise RewardError("the judge is out", prompt=prompt, response=response)
        return await super().score(prompt, response)


def test_returned_in_place():
    with Aligner(ToyPolicy(4), FailsOnTwo(), BEST) as aligner:
        prompts = ["1", "", "2", "9", "3"]
        results = aligner.generate(prompts, on_error="return")
        assert [type(r.error) for r in results] == [
            type(None),
            ConfigError,
            RewardError,
            ConfigError,
            type(None),
        ]
        assert [r.finished for r in results] == [True, False, False, False, True]
        alone = aligner.generate([{"prompt": "1", "id": 0}, {"prompt": "3", "id": 4}])
        assert [alone[0].outputs, alone[1].outputs] == [results[0].outputs, results[4].outputs]


def test_raised_with_what_was_finished():
    with Aligner(ToyPolicy(4), FailsOnTwo(), BEST) as aligner:
        with pytest.raises(RewardError, match="out") as failed:
            aligner.generate(["1", "2", "3"])
        assert sorted(r.request_id for r in failed.value.finished) == ["0", "2"]
        with pytest.raises(ConfigError, match="on_error='ignore'"):
            aligner.generate("1", on_error="ignore")


def test_an_engine_that_dies_is_reported_for_each_prompt():
    class Dies(ToyPolicy):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            raise PolicyError("the engine died")

    with Aligner(Dies(4), ToyReward(), BEST) as aligner:
        results = aligner.generate(["1", "2"], on_error="return")
        assert all(isinstance(r.error, PolicyError) for r in results)
        with pytest.raises(PolicyError):
            aligner.generate(["1", "2"])


def test_ids_are_addresses():
    with Aligner(ToyPolicy(6), ToyReward(), BEST) as aligner:
        named = aligner.generate([{"prompt": "1", "id": "a"}, {"prompt": "1", "id": "b"}])
        other = aligner.generate([{"prompt": "1", "id": "b"}, {"prompt": "1", "id": "a"}])
        assert [r.request_id for r in named] == ["a", "b"]
        assert named[0].outputs == other[1].outputs
        assert named[1].outputs == other[0].outputs
        with pytest.raises(ConfigError, match="prompt 1 has id 'a'"):
            aligner.generate([{"prompt": "1", "id": "a"}, {"prompt": "1", "id": "a"}])
        for wrong in (1.5, None, ("a",), ["a"]):
            with pytest.raises(ConfigError, match="an id is text or a whole number"):
                aligner.generate([{"prompt": "1", "id": wrong}])


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.text(), max_size=4),
    n=st.integers(-1, 4),
    max_tokens=st.integers(-1, 6),
    tokens=st.none() | st.integers(-1, 40),
    seed=st.integers(),
)
def test_anything_is_answered_or_refused(prompts, n, max_tokens, tokens, seed):
    """Arbitrary text and settings: an answer for each, or an error of ours."""
    try:
        strategy = BestOf(n=n, inner=Plain(max_tokens=max_tokens))
        budget = Budget(policy_tokens=tokens)
        with Aligner(ToyPolicy(4), ToyReward(), strategy, budget=budget, seed=seed) as aligner:
            results = aligner.generate(prompts, on_error="return")
    except RsalignError:
        assert n < 1 or max_tokens < 1 or not prompts or (tokens is not None and tokens < 1)
        return
    assert len(results) == len(prompts)
    for result in results:
        assert (result.error is None) == bool(result.outputs)
