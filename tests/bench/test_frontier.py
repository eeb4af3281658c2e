"""`python -m eval.bench frontier`: equal rewards, and caches with blocks of another size."""

import itertools
from statistics import fmean

import pytest

from eval.bench.bare_engine import forwards_per_drawn
from eval.bench.equal_reward import rewards_of_best, seconds_of_size, size_of_reward
from eval.bench.simulated_cache import SimulatedCache
from rsalign import Key


def test_the_best_of_n_is_the_mean_over_all_subsets():
    pools = [[3.0, -1.0, 0.5, 3.0], [0.0, 2.0, 1.0, -4.0]]
    for n, found in enumerate(rewards_of_best(pools), 1):
        wanted = fmean(fmean(map(max, itertools.combinations(pool, n))) for pool in pools)
        assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("reward", "size"), [(0.9, None), (1.0, 1.0), (1.75, 1.75), (2.5, 3.0), (2.6, None)]
)
def test_the_size_of_a_reward(reward, size):
    assert size_of_reward(reward, [1.0, 2.0, 2.5]) == size


@pytest.mark.parametrize(
    ("measured", "seconds"), [({4: 2.0}, 2.5), ({2: 1.0, 4: 1.5}, 1.75), ({2: 1, 4: 2, 8: 4}, 2.5)]
)
def test_seconds_lie_on_a_line(measured, seconds):
    assert seconds_of_size(5.0, measured) == pytest.approx(seconds)


@pytest.mark.parametrize("block", [1, 2, 16, 32])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 32, 33, 70])
def test_of_a_known_prefix_the_last_block_is_computed_again(block, length):
    prefix = tuple(range(length))
    cache = SimulatedCache(block)
    cache.keep((*prefix, 99))
    computed = length - cache.count_cached(prefix)
    assert computed == forwards_per_drawn([(prefix, 1)], block=block)


def test_nothing_is_cached_of_an_unknown_beginning():
    cache = SimulatedCache(4)
    known = [[Key(0, (i, j)).below(2) for i in range(20)] for j in range(5)]
    for each in known:
        cache.keep(each)
    for j in range(200):
        length = 1 + Key(1, (j,)).below(23)
        asked = [Key(2, (i, j)).below(2) for i in range(length)]
        cached = cache.count_cached(asked)
        shared = max(
            sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            for pairs in (zip(asked, each, strict=False) for each in known)
        )
        assert cached == min(shared, len(asked) - 1) // 4 * 4
    cache.clear()
    assert cache.count_cached(known[0]) == 0


@pytest.mark.nightly
def test_the_simulation_of_the_engines_own_blocks_counts_what_the_engine_computes():
    from vllm import SamplingParams, TokensPrompt

    from eval.bench.counted_engine import CountedEngine
    from rsalign.embedded import POLICY

    engine = CountedEngine(POLICY, pooling=False, simulated_block=32)
    prompt = list(range(10, 90))
    for cut in (80, 40, 65, 64, 80):
        params = SamplingParams(max_tokens=40, ignore_eos=True, seed=cut, n=2)
        engine.llm.generate(TokensPrompt(prompt_token_ids=prompt[:cut]), params, use_tqdm=False)
    assert engine.simulated_tokens == engine.tokens > 5 * 2 * 40
