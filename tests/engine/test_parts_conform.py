"""The vLLM policy passes the same checks as the toy; so do both rewards, which agree."""

import asyncio

import pytest

from rsalign import (
    ArithmeticSampling,
    Beam,
    BestOf,
    Cautious,
    DeepConf,
    Distinct,
    Dvts,
    EarlyDrop,
    Entropy,
    FinalNumber,
    FixedSize,
    Key,
    LookAhead,
    MajorityVote,
    Matching,
    ParticleGibbs,
    Particles,
    Plain,
    PrioritySampling,
    QAlign,
    Response,
    Run,
    StochasticBeam,
    Stop,
    TreeSearch,
)
from rsalign.core.cancelled_draws import receive_cancelled_draws
from rsalign.core.tasks import concurrently
from rsalign.embedded import REWARD
from rsalign.rewards.classifier import TransformersReward
from rsalign.testing import check_policy, check_reward, check_strategy

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def transformers_reward():
    reward = TransformersReward(REWARD)
    yield reward
    reward.close()


@pytest.fixture
def examples(policy, ask):
    """Answers of many lengths, whole and cut, and none at all."""

    async def main():
        drawn = await concurrently(
            policy.extend(ask(i).tokens, max_new_tokens=4 + 6 * i, key=Key(5, (i,)))
            for i in range(12)
        )
        return [
            (ask(i), Response(s.tokens, policy.text(s.tokens), s.stop)) for i, s in enumerate(drawn)
        ] + [(ask(0), Response((), "", None))]

    return asyncio.run(main())


def test_policy(policy, ask):
    prefixes = [ask(i).tokens for i in range(6)]
    eos = policy.engine.tokenizer.eos_token_id
    asyncio.run(check_policy(policy, prefixes, eos=eos, max_new_tokens=48))


def test_vllm_reward(reward, examples):
    asyncio.run(check_reward(reward, examples))


def test_transformers_reward(transformers_reward, examples):
    asyncio.run(check_reward(transformers_reward, examples))


def test_rewards_agree(reward, transformers_reward, examples):
    """Both read the same tokens of the same text; float32, stated tolerance 1e-4."""

    async def main():
        for prompt, response in examples:
            ours = await reward.score(prompt, response)
            theirs = await transformers_reward.score(prompt, response)
            assert ours == pytest.approx(theirs, abs=1e-4)
            assert ours.tokens == theirs.tokens

    asyncio.run(main())


def test_an_open_answer_is_not_a_finished_one(reward, ask):
    """The same text, once as it stands and once with its turn closed."""

    async def main():
        text = "First 1 + 1 = 2"
        open_ = await reward.score(ask(0), Response((1,), text, Stop.BOUNDARY))
        finished = await reward.score(ask(0), Response((1,), text, Stop.EOS))
        assert finished.tokens == open_.tokens + 1
        assert abs(finished - open_) > 1e-3

    asyncio.run(main())


def test_strategies(policy, reward, ask):
    async def main():
        eos = policy.engine.tokenizer.eos_token_id
        lines = Entropy(1.0)  # it ends before an uncertain token: the first of a line
        for strategy in (
            Plain(max_tokens=64),
            BestOf(n=4, inner=Plain(max_tokens=64)),
            Particles(n=4, segmenter=lines, ess_threshold=1.0, max_tokens=64),
            Particles(
                n=2,
                segmenter=FixedSize(12),
                twist=LookAhead(horizon=8),
                rejuvenate=1,
                max_tokens=32,
            ),
            Beam(width=2, branch=2, segmenter=lines, max_tokens=64),
            Dvts(subtrees=2, branch=2, segmenter=FixedSize(12), max_tokens=48),
            EarlyDrop(n=4, first=12, max_tokens=64),
            ArithmeticSampling(n=4, select=MajorityVote(extract=FinalNumber()), max_tokens=48),
            DeepConf(
                select=MajorityVote(extract=FinalNumber()),
                n=6,
                warm_up=2,
                keep=1.0,
                window=4,
                max_tokens=48,
            ),
            Distinct(n=3, max_tokens=32),
            PrioritySampling(n=3, constraint=Matching(r"[^%]*"), max_tokens=48),
            StochasticBeam(width=2, max_tokens=12),
            TreeSearch(segmenter=lines, rounds=2, branch=2, max_tokens=48),
            Cautious(most_trials=3, low=0.5, marks="\n", max_tokens=48),
            QAlign(
                steps=3,
                max_tokens=48,
                moves=(ParticleGibbs(segmenter=lines, n=3, share=0.6),),
            ),
            QAlign(
                steps=3,
                max_tokens=48,
                moves=(
                    ParticleGibbs(
                        segmenter=FixedSize(8), n=3, share=0.9, ess_threshold=1.0, ancestors=True
                    ),
                ),
            ),
        ):
            await check_strategy(strategy, ask(3), policy, reward, eos=eos)

    asyncio.run(main())


def test_concurrent_equals_sequential(policy, reward, ask):
    strategy = BestOf(n=3, inner=Plain(max_tokens=96))

    async def one(i):
        return await strategy.sample(ask(i), Run(policy, reward, Key(8, (i,))))

    async def main():
        together = await concurrently(one(i) for i in range(8))
        alone = [await one(i) for i in range(8)]
        assert together == alone

    asyncio.run(main())


def test_the_prefix_is_cached(policy, ask):
    async def main():
        prefix = (ask(4).tokens * 3)[:128]
        await policy.extend(prefix, max_new_tokens=1, key=Key(0, ("first",)))
        again = await policy.extend(prefix + (5,), max_new_tokens=1, key=Key(0, ("second",)))
        assert again.cached_tokens == 128

    asyncio.run(main())


def test_stops_are_told_apart(policy, ask):
    from rsalign import Sampling

    async def main():
        prompt = ask(0)
        whole = await policy.extend(prompt.tokens, max_new_tokens=128, key=Key(1, (1,)))
        assert whole.stop is Stop.EOS
        cut = await policy.extend(prompt.tokens, max_new_tokens=5, key=Key(1, (1,)))
        assert (cut.stop, cut.tokens) == (Stop.LENGTH, whole.tokens[:5])
        stopping = policy.with_sampling(Sampling(stop=("Answer",)))
        stopped = await stopping.extend(prompt.tokens, max_new_tokens=128, key=Key(1, (1,)))
        assert (stopped.stop, stopped.stop_reason) == (Stop.STOP, "Answer")
        assert stopped.tokens == whole.tokens[: len(stopped.tokens)]
        newline = policy.engine.tokenizer.encode("\n")[0]
        by_token = policy.with_sampling(Sampling(stop_token_ids=(newline,)))
        line = await by_token.extend(prompt.tokens, max_new_tokens=128, key=Key(1, (1,)))
        assert (line.stop, line.stop_reason, line.tokens[-1]) == (Stop.STOP, newline, newline)

    asyncio.run(main())


def test_greedy_is_a_point_mass(policy, ask):
    from rsalign import Sampling

    greedy = policy.with_sampling(Sampling(temperature=0))

    async def main():
        one, other = await concurrently(
            greedy.extend(ask(0).tokens, max_new_tokens=32, key=Key(i)) for i in range(2)
        )
        assert one == other
        assert set(one.log_probs) == {0.0}

    asyncio.run(main())


@pytest.mark.parametrize(
    "law",
    [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-6}, {"allowed_token_ids": (40,)}],
    ids=lambda law: next(iter(law)),
)
def test_settings_that_leave_one_token_draw_the_same_under_any_key(policy, ask, law):
    """And the engine itself says that each had probability 1."""
    from rsalign import Sampling

    sampling = Sampling(**law)
    one = policy.with_sampling(sampling)

    async def main():
        return await concurrently(
            one.extend(ask(0).tokens, max_new_tokens=32, key=Key(i)) for i in range(4)
        )

    assert sampling.is_point_mass
    assert not sampling.greedy
    first, *others = asyncio.run(main())
    assert others == [first] * 3
    assert set(first.log_probs) == {0.0}


def test_equal_logits_survive_top_k_of_one():
    """Why `Sampling.is_point_mass` does not take log-probabilities to be 0: vLLM keeps ties."""
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    kept = apply_top_k_top_p(logits, torch.tensor([1]), None)
    assert torch.isfinite(kept).tolist() == [[False, True, True, False]]


def test_cancelling_aborts_in_the_engine(policy, ask):
    """And tells what had been drawn by then."""

    async def main():
        reports = []
        with receive_cancelled_draws(lambda *report: reports.append(report)):
            open_call = asyncio.ensure_future(
                policy.extend(ask(0).tokens * 3, max_new_tokens=300, key=Key(7))
            )
        llm = policy.engine.vllm_engine
        while llm.get_num_unfinished_requests() == 0:
            await asyncio.sleep(0.001)
        open_call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await open_call
        ((prefix, tokens),) = reports
        assert prefix == ask(0).tokens * 3
        assert isinstance(tokens, tuple)
        async with asyncio.timeout(10):
            while llm.get_num_unfinished_requests():
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_a_refused_request_leaves_the_engine_working(policy, ask):
    from rsalign import ConfigError

    async def main():
        with pytest.raises(ConfigError, match="not in the vocabulary"):
            await policy.extend((10**6,), max_new_tokens=1, key=Key(0))
        segment = await policy.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
        assert len(segment.tokens) == 1

    asyncio.run(main())


def test_backends_agree(policy, beside, ask):
    """`AsyncLLM` in a process of its own draws the same segments as the engine in this one."""

    async def draw(of):
        return await concurrently(
            of.extend(ask(i).tokens, max_new_tokens=96, key=Key(3, (i,))) for i in range(8)
        )

    assert asyncio.run(draw(beside)) == asyncio.run(draw(policy))
    eos = policy.engine.tokenizer.eos_token_id
    prefixes = [ask(i).tokens for i in range(3)]
    asyncio.run(check_policy(beside, prefixes, eos=eos, max_new_tokens=24))
