"""Cards on the real engine: its law at a short horizon, and what its rewards cost."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import pytest
from cards_law import line, soft
from exact import check_draws, next_probs, power, rewards, shaped, tokenizer
from short_answers import ShortAnswers

from rsalign import Cards, Entropy, FixedSize, Key, Message, Prompt, Run, Sampling
from rsalign.core.tasks import concurrently
from rsalign.rewards.wrappers import Cached
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Line

pytestmark = pytest.mark.engine

LAW = Sampling(temperature=2.0, top_k=4)  # a support small enough to follow up every answer
MAX_TOKENS, TRIES, BETA = 4, 3, 0.7
THRESHOLD = Line(target=6.5, prompt_weight=1.0)
PROBLEM = 4  # its operators are uncertain, and only after the number that belongs there
ENTROPY = 0.1  # nats, far from every entropy that occurs


@pytest.fixture(scope="module")
def tree(ask):
    """By transformers."""
    prompt = ask(PROBLEM)
    return ShortAnswers.of(
        MAX_TOKENS,
        (tokenizer().eos_token_id,),
        lambda answers: next_probs([[*prompt.tokens, *answer] for answer in answers]),
        lambda raw: shaped(raw, temperature=LAW.temperature, top_k=LAW.top_k),
        lambda answers: rewards(prompt, answers),
    )


def never(tree, answer, drawn):
    return False


def uncertain(tree, answer, drawn):
    return tree.entropies[answer] >= ENTROPY


CASES = {  # segmenter, and its rule in the test's own terms
    "fixed size": (FixedSize(2), 2, never),
    "entropy": (Entropy(ENTROPY, min_tokens=1, max_tokens=4), 4, uncertain),
}
MISTAKES = {
    "threshold one position early": {"late": -1},
    "threshold one position late": {"late": 1},
    "reward of the segment alone": {"before": 1.0},
    "no end of tries": {"exhausted": "never"},
    "the last draft is forced": {"exhausted": "last"},
}


@pytest.mark.parametrize("case", CASES)
def test_the_law(policy, reward, ask, tree, case):
    """With as many draws as tell it from every mistake, but for once in a million."""
    assert min(abs(entropy - ENTROPY) for entropy in tree.entropies.values()) > 1e-2
    segmenter, size, ends = CASES[case]
    bar = line(tree.rewards.__getitem__, THRESHOLD.target, THRESHOLD.prompt_weight, MAX_TOKENS)

    def law(size, ends, **mistake):
        ends = partial(ends, tree)
        return tree.cards(size, ends, bar=bar, accept=soft(BETA), tries=TRIES, **mistake)

    right = law(size, ends)
    wrong = {name: law(size, ends, **mistake) for name, mistake in MISTAKES.items()}
    wrong |= {f"segments of {n}": law(n, never) for n in (1, 3, 4) if n != size}

    def tells(num_draws):
        return all(power(right, other, num_draws) > 1 - 1e-6 for other in wrong.values())

    num_draws = next(n for n in range(250, 10_000, 250) if tells(n))
    strategy = Cards(
        segmenter=segmenter,
        threshold=THRESHOLD,
        acceptance=SoftAcceptance(beta=BETA),
        max_tokens=MAX_TOKENS,
        max_tries=TRIES,
    )
    shaped_policy, cached = policy.with_sampling(LAW), Cached(reward)  # few different answers

    async def main():
        drawn = await concurrently(
            strategy.sample(ask(PROBLEM), Run(shaped_policy, cached, Key(6, (i,))))
            for i in range(num_draws)
        )
        return [answer.tokens for answer in drawn]

    drawn = asyncio.run(main())
    assert check_draws(drawn, right)
    for name, other in wrong.items():
        assert not check_draws(drawn, other), name


@dataclass(frozen=True)
class Recorded:
    """A reward that remembers what each response had cost, by its tokens, in order."""

    inner: object
    costs: dict

    async def score(self, prompt, response):
        value = await self.inner.score(prompt, response)
        self.costs.setdefault(response.tokens, value)
        return value


def computed(costs, block):
    """How many tokens the reward engine computed of each draft, by the draft's length."""
    counts = defaultdict(list)
    for tokens, value in costs.items():
        before = [len(kept) for kept in costs if kept == tokens[: len(kept)] != tokens]
        if before:  # all but the prompt alone
            kept = costs[tokens[: max(before)]]
            assert value.cached_tokens >= kept.tokens // block * block
            counts[len(tokens)].append(value.tokens - value.cached_tokens)
    return counts


@pytest.mark.parametrize("proposals", [1, 4])
def test_a_segment_costs_the_reward_its_own_tokens(policy, reward, proposals):
    """And those before it in a block of the cache; the twentieth no more than the first four."""
    block = reward.engine.vllm_config.cache_config.block_size
    messages = (Message("user", f"Zoe has {proposals} pears. Count them, and do not stop."),)
    prompt = Prompt(messages, policy.encode_chat(messages))
    endless = policy.with_sampling(Sampling(logit_bias=((tokenizer().eos_token_id, -100.0),)))
    recorded = Recorded(reward, {})
    strategy = Cards(
        segmenter=FixedSize(8),
        threshold=Line(target=3.0),
        max_tokens=160,
        max_tries=4,
        proposals=proposals,
    )
    asyncio.run(strategy.sample(prompt, Run(endless, recorded, Key(2))))
    assert recorded.costs[()].cached_tokens == 0  # nobody has asked about this prompt before
    counts = computed(recorded.costs, block)
    assert set(counts) == set(range(8, 161, 8))
    early, late = (
        max(max(counts[length]) for length in range(start, start + 32, 8)) for start in (8, 136)
    )
    # the reward's tokenizer splits a few of the policy's tokens otherwise
    assert late <= early + 2 <= 8 + block + 2


def test_an_answer_that_ends_costs_no_more(policy, reward, ask):
    """Though the end of its turn is added to what the reward reads."""
    block = reward.engine.vllm_config.cache_config.block_size
    recorded = Recorded(reward, {})
    strategy = Cards(segmenter=Entropy(1.0), threshold=Line(target=3.0), max_tokens=160)
    answer = asyncio.run(strategy.sample(ask(11), Run(policy, recorded, Key(3))))
    assert answer.response.finished
    counts = computed(recorded.costs, block)
    assert len(counts) > 3
    assert counts[len(answer.tokens)][0] < recorded.costs[answer.tokens].tokens / 2
