"""Tokens drawn without refused ones are properly weighted; planted mistakes are not."""

import itertools
import math
from collections import defaultdict

import pytest
from biased_toy import BiasedToy

from rsalign import ConfigError, Entropy, FixedSize, Sampling
from rsalign.populations import allowed_tokens
from rsalign.populations.allowed_tokens import (
    draw_segment,
    draw_token,
    require_tokens_one_by_one,
)
from rsalign.testing import law, responses

PREFIX = (1,)


def subsets(vocab):
    return [
        frozenset(chosen)
        for size in range(vocab + 1)
        for chosen in itertools.combinations(range(vocab), size)
    ]


def token_error(policy, allowed, draw=draw_token):
    """The greatest error of E[weight 1{x}] = p(x) [x is allowed]."""

    async def allows(segment):
        return segment.tokens[-1] in allowed

    async def drawn(key):
        weighed = await draw(policy, PREFIX, allows, key)
        return weighed.segment and weighed.segment.tokens[0], weighed.log_weight

    means = defaultdict(float)
    for (token, log_weight), mass in law(drawn).items():
        means[token] += mass * math.exp(log_weight)
    expected = {x: p * (x in allowed) for x, p in enumerate(policy.probs(PREFIX))}
    return max(abs(means[x] - expected[x]) for x in expected) + means[None]


@pytest.mark.parametrize("vocab", [2, 3, 4])
@pytest.mark.parametrize("salt", range(3))
def test_a_token_is_properly_weighted_on_every_subset(vocab, salt):
    policy = BiasedToy(vocab, salt)
    for allowed in subsets(vocab):
        assert token_error(policy, allowed) < 1e-12


@pytest.mark.parametrize("salt", range(2))
def test_a_segment_is_properly_weighted(salt):
    """The allowed answers of up to three tokens, with an open prefix that can end in none."""
    policy, longest = BiasedToy(3, salt), 3
    allowed = {(0,), (1, 2, 0), (1, 1, 1), (1, 1, 2)}

    async def allows(segment):
        complete = segment.stop.value != "boundary"
        if complete:
            return segment.tokens in allowed
        return segment.tokens != (2,)  # (1, 2) is thought to be open; only its end is refused

    async def drawn(key):
        segment, log_weight, _ = await draw_segment(
            policy, PREFIX, allows, max_new_tokens=longest, boundary=None, key=key
        )
        return segment and (segment.tokens, sum(segment.log_probs)), log_weight

    means = defaultdict(float)
    base = responses(BiasedToy(3, salt), PREFIX, longest)
    for (answer, log_weight), mass in law(drawn).items():
        if answer is not None:
            tokens, log_prob = answer
            assert log_prob == pytest.approx(math.log(base[tokens]))
            means[tokens] += mass * math.exp(log_weight)
    for tokens, p in base.items():
        assert means[tokens] == pytest.approx(p * (tokens in allowed), abs=1e-12)


def test_few_tokens_are_asked():
    """Where all is allowed, the constraint is asked about two tokens."""

    async def allows(segment):
        return True

    async def drawn(key):
        return (await draw_token(BiasedToy(4, 1), PREFIX, allows, key)).num_asked

    assert law(drawn)[2] == pytest.approx(1)


def test_what_cannot_be_combined_is_refused():
    for truncated in (Sampling(top_p=0.9), Sampling(top_k=5), Sampling(min_p=0.1)):
        with pytest.raises(ConfigError, match="set top_p=1"):
            require_tokens_one_by_one(BiasedToy(law=truncated), FixedSize(2))
    with pytest.raises(ConfigError, match="stop_token_ids"):
        require_tokens_one_by_one(BiasedToy(law=Sampling(stop=("x",))), FixedSize(2))
    with pytest.raises(ConfigError, match="reads entropies"):
        require_tokens_one_by_one(BiasedToy(), Entropy(1.0))


# planted mistakes


async def without_weight(policy, prefix, allows, key):
    """Rejection sampling alone: the allowed law of each token, as if it had mass 1."""
    weighed = await draw_token(policy, prefix, allows, key)
    return weighed if weighed.segment is None else weighed.__class__(weighed.segment, 0.0, 0)


def test_planted_mistakes(monkeypatch):
    policy = BiasedToy(3, 1)
    worst = {
        "no weight": max(token_error(policy, one, without_weight) for one in subsets(3)),
    }
    monkeypatch.setattr(allowed_tokens, "_log_rest", lambda prob: 0.0)
    worst["refused mass is not counted"] = max(token_error(policy, one) for one in subsets(3)[1:])
    monkeypatch.undo()

    original = allowed_tokens._draw

    async def last_with_replacement(policy, prefix, banned, key):
        is_last = key.path[-1] == "other"
        return await original(policy, prefix, banned[:-1] if is_last else banned, key)

    monkeypatch.setattr(allowed_tokens, "_draw", last_with_replacement)
    worst["the last draw may be x again"] = max(token_error(policy, one) for one in subsets(3))
    assert min(worst.values()) > 0.01, worst
