"""Strategies on the real engine against the embedded policy's exact law at a short horizon.

Draws are seeded, so that a test passes always or never. There are as many as tell the right law
from those that are ruled out, but for once in a thousand (`exact.power`).
"""

import asyncio

import pytest
import torch
from exact import LEAST, REST, answers, check_draws, next_probs, power, rewards, shaped

from rsalign import BestOf, Key, Plain, Run
from rsalign.core.tasks import concurrently

pytestmark = pytest.mark.engine

NUM_DRAWS = 1500


def draws(strategy, prompt, policy, reward):
    async def main():
        return await concurrently(
            strategy.sample(prompt, Run(policy, reward, Key(1, (i,)))) for i in range(NUM_DRAWS)
        )

    return [candidate.tokens for candidate in asyncio.run(main())]


def best_of(law, values, n):
    """Order statistics; answers that were not followed up keep their mass (at most n times it)."""

    def below(value, strict):
        return sum(
            p
            for y, p in law.items()
            if y != REST and (values[y] < value - 1e-4 if strict else values[y] <= value + 1e-4)
        )

    chosen = {}
    for y, p in law.items():
        if y != REST:
            low, high = below(values[y], True), below(values[y], False)
            chosen[y] = p / (high - low) * (high**n - low**n)
    return chosen | {REST: max(0.0, 1 - sum(chosen.values()))}


class Zero:
    async def score(self, prompt, response):
        return 0.0


@pytest.mark.parametrize("index", [0, 1])
def test_plain(policy, ask, index):
    prompt = ask(index)
    law = answers(prompt.tokens, max_tokens=4)
    assert law[REST] < 100 * LEAST
    assert check_draws(draws(Plain(max_tokens=4), prompt, policy, Zero()), law)


def test_best_of(policy, reward, ask):
    prompt = ask(0)
    law = answers(prompt.tokens, max_tokens=4)
    values = rewards(prompt, law)
    right, of_two = best_of(law, values, 3), best_of(law, values, 2)
    assert min(power(right, wrong, NUM_DRAWS) for wrong in (law, of_two)) > 0.999
    drawn = draws(BestOf(n=3, inner=Plain(max_tokens=4)), prompt, policy, reward)
    assert check_draws(drawn, right)
    assert not check_draws(drawn, law), "best-of-n drew from the policy"
    assert not check_draws(drawn, of_two)


def test_temperature_and_truncation(policy, ask):
    """The sampling law, its draws and its log-probabilities agree."""
    from rsalign import Sampling

    prompt = ask(1)
    hot = policy.with_sampling(Sampling(temperature=0.7, top_k=3))
    (probs,) = shaped(next_probs([list(prompt.tokens)]), temperature=0.7, top_k=3)

    async def main():
        return await concurrently(
            hot.extend(prompt.tokens, max_new_tokens=1, key=Key(2, (i,))) for i in range(NUM_DRAWS)
        )

    segments = asyncio.run(main())
    for segment in segments[:50]:
        (token,), (log_prob,) = segment.tokens, segment.log_probs
        assert log_prob == pytest.approx(probs[token].log().item(), abs=1e-4)
    counts = torch.bincount(torch.tensor([s.tokens[0] for s in segments]), minlength=len(probs))
    shares = counts / NUM_DRAWS
    assert (shares - probs).abs().max() < 5 * (0.25 / NUM_DRAWS) ** 0.5
    assert (counts > 0).sum() == 3
