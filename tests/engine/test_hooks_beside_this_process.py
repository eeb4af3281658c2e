"""Hooks of an engine in a process of its own: what they learn comes in a call to its workers."""

import asyncio

import pytest
from test_token_statistics_on_the_engine import BOUNDARIES, check, draw, prompt

from rsalign import ConfigError, Key, Sampling, Stop
from rsalign.segments import Entropy, FixedSize

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("boundary", [*BOUNDARIES, Entropy(0.05, 1, 9)], ids=str)
def test_it_draws_and_measures_as_here(policy, beside, boundary):
    for law in (Sampling(), Sampling(temperature=0), Sampling(temperature=1.5, stop=("So",))):
        here, there = policy.with_sampling(law), beside.with_sampling(law)
        drawn = draw(there, range(16), boundary=boundary, measured=False)
        same = draw(here, range(16), boundary=boundary, measured=False)
        assert drawn == same
        assert [s.boundary_entropy for s in drawn] == [s.boundary_entropy for s in same]
        check(there, boundary, draw(there, range(16), boundary=boundary), same)
    if isinstance(boundary, Entropy):
        assert any(segment.boundary_entropy is not None for segment in drawn)


def test_an_engine_whose_workers_tell_nothing(beside, monkeypatch):
    """It draws; only what its hooks have learnt stays there."""
    parallel = beside.engine.vllm_config.parallel_config
    monkeypatch.setattr(parallel, "worker_extension_cls", "their.own.Extension")
    with pytest.raises(ConfigError, match="worker_extension_cls"):
        draw(beside, [0])
    (segment,) = draw(beside, [0], boundary=Entropy(1.0), measured=False)
    assert (segment.stop, segment.boundary_entropy) == (Stop.BOUNDARY, None)


def test_a_cancelled_call_frees_its_request(beside):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await beside.measure(prompt(beside, 0), max_new_tokens=400, key=Key(3))

    asyncio.run(main())
    assert beside.engine.num_open == 0
    assert len(draw(beside, range(4), boundary=FixedSize(3))) == 4
