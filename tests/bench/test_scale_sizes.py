"""`rsalign bench scale`: each curve grows in what it is named after, and in nothing else."""

from dataclasses import replace

from rsalign import Plain
from rsalign.bench.scale import Cost, curves

GROWS = {
    "prompts": lambda size: (size.num_prompts, replace(size, name="", num_prompts=0)),
    "tokens of an answer, best": lambda size: (
        size.strategy.inner.max_tokens,
        replace(size, name="", strategy=replace(size.strategy, inner=Plain())),
    ),
    "tokens of an answer, CARDS": lambda size: (
        size.strategy.max_tokens,
        replace(size, name="", strategy=replace(size.strategy, max_tokens=1)),
    ),
    "candidates": lambda size: (
        size.strategy.n,
        replace(size, name="", strategy=replace(size.strategy, n=1)),
    ),
    "steps": lambda size: (
        size.strategy.steps,
        replace(size, name="", strategy=replace(size.strategy, steps=1)),
    ),
}


def test_one_thing_grows_in_each_curve():
    for (what, sizes), (begin, split) in zip(curves().items(), GROWS.items(), strict=True):
        assert what.startswith(begin)
        amounts, rests = zip(*map(split, sizes), strict=True)
        assert [str(amount) for amount in amounts] == [size.name for size in sizes]
        assert list(amounts) == sorted(set(amounts))
        assert amounts[-1] >= 16 * amounts[0]
        assert all(rest == rests[0] for rest in rests)


def test_the_own_cost_is_told_for_each_drawn_token():
    cost = Cost(seconds=9.0, host_seconds=3.0, num_answers=2, num_tokens=150, memory=0)
    assert cost.host_per_token == 0.02
