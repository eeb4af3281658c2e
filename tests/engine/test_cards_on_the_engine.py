"""Cards on the real engine: its law at a short horizon, and what its rewards cost."""

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass

import pytest
import torch
from cards_law import line, next_law, soft
from exact import check_draws, next_probs, power, rewards, shaped, tokenizer

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


@dataclass(frozen=True)
class Tree:
    """All that the embedded models say about short answers to one prompt, by transformers.

    Attributes:
        laws: of the next token under `LAW`, by what came before.
        entropies: of the model's own next-token law, nats, likewise.
        rewards: of every answer, whole or partial, and of none.
    """

    laws: dict
    entropies: dict
    rewards: dict

    @classmethod
    def of(cls, prompt):
        laws, entropies, reached, open_ = {}, {}, [()], [()]
        for _ in range(MAX_TOKENS):
            raw = next_probs([[*prompt.tokens, *before] for before in open_])
            entropy = torch.special.entr(raw).sum(-1).tolist()
            entropies |= dict(zip(open_, entropy, strict=True))
            law = shaped(raw, temperature=LAW.temperature, top_k=LAW.top_k)
            for before, row in zip(open_, law, strict=True):
                laws[before] = {token: row[token].item() for token in row.nonzero()[:, 0].tolist()}
            longer = [(*before, token) for before in open_ for token in laws[before]]
            reached += longer
            open_ = [answer for answer in longer if not over(answer)]
        return cls(laws, entropies, rewards(prompt, reached))

    def segments(self, kept, size, ends):
        """q(s): every longer answer at which a segment after `kept` ends, and its probability."""
        ended = {}

        def grow(answer, mass):
            drawn = len(answer) - len(kept)
            if drawn and (over(answer) or drawn == size or ends(drawn, self.entropies[answer])):
                ended[answer] = mass
                return
            for token, p in self.laws[answer].items():
                grow((*answer, token), mass * p)

        grow(kept, 1.0)
        return ended

    def cards(self, size, ends, *, late=0, before=0.0, exhausted="best"):
        """The law of the answer, by the closed form for each segment; or a wrong one.

        Args:
            size: greatest number of tokens of a segment.
            ends: whether it ends at so many tokens before a token of such an entropy.
            late: moves the threshold's position.
            before: share of the kept answer's reward that is taken off.
            exhausted: what happens when tries run out; ``"never"``: there is no end of them.
        """
        value = self.rewards.__getitem__
        bar = line(value, THRESHOLD.target, THRESHOLD.prompt_weight, MAX_TOKENS)
        done, open_ = defaultdict(float), {(): 1.0}
        while open_:
            longer = defaultdict(float)
            for kept, mass in open_.items():
                q = self.segments(kept, size, ends)
                off = before * value(kept) if kept else 0.0
                accept = {s: soft(BETA)(value(s) - off, bar(len(s) + late)) for s in q}
                if exhausted == "never":
                    total = math.fsum(q[s] * accept[s] for s in q)
                    law = {s: q[s] * accept[s] / total for s in q}
                else:
                    law = next_law(q, accept, value, TRIES, exhausted)
                for s, p in law.items():
                    (done if over(s) else longer)[s] += mass * p
            open_ = longer
        assert math.fsum(done.values()) == pytest.approx(1, abs=1e-6)
        return done


def over(answer):
    return len(answer) == MAX_TOKENS or answer[-1:] == (tokenizer().eos_token_id,)


@pytest.fixture(scope="module")
def tree(ask):
    return Tree.of(ask(PROBLEM))


def never(drawn, entropy):
    return False


def uncertain(drawn, entropy):
    return entropy >= ENTROPY


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
    right = tree.cards(size, ends)
    wrong = {name: tree.cards(size, ends, **mistake) for name, mistake in MISTAKES.items()}
    wrong |= {f"segments of {n}": tree.cards(n, never) for n in (1, 3, 4) if n != size}

    def tells(num_draws):
        return all(power(right, law, num_draws) > 1 - 1e-6 for law in wrong.values())

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
    for name, law in wrong.items():
        assert not check_draws(drawn, law), name


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
