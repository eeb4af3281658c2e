"""Particle Gibbs leaves pi w / Z invariant, alone and beside other moves; mistakes do not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from chain_law import BETA, PROMPT, Space, drift

from rsalign import ConfigError, Entropy, EntropyCuts, FixedSize, LookAhead, PartialReward, QAlign
from rsalign.populations import particle_gibbs
from rsalign.populations.particle_gibbs import ParticleGibbs

ALWAYS = 1.0
GIBBS = ParticleGibbs(n=2, segmenter=FixedSize(1), share=1.0, ess_threshold=ALWAYS)
CASES = {
    "two": (GIBBS, 2, 2),
    "three": (replace(GIBBS, n=3), 2, 2),
    "more tokens": (GIBBS, 3, 2),
    "three rounds": (GIBBS, 2, 3),
    "longer segments": (replace(GIBBS, segmenter=FixedSize(2)), 2, 3),
    "by entropy": (replace(GIBBS, segmenter=Entropy(0.67, 1, 2)), 2, 3),
    "adaptive": (replace(GIBBS, ess_threshold=0.8), 2, 3),
    "never": (replace(GIBBS, ess_threshold=0.0), 2, 3),
    "other twist": (replace(GIBBS, twist=PartialReward(scale=0.3)), 2, 3),
    "random twist": (replace(GIBBS, twist=LookAhead()), 2, 2),
    "ancestors": (replace(GIBBS, ancestors=True), 2, 3),
    "ancestors, three": (replace(GIBBS, ancestors=True, n=3), 2, 2),
    "ancestors, more tokens": (replace(GIBBS, ancestors=True), 3, 2),
    "ancestors, adaptive": (replace(GIBBS, ancestors=True, ess_threshold=0.8), 2, 3),
}


def log_weight(candidate):
    return candidate.reward / BETA


def error(gibbs, vocab, max_tokens, salt):
    space = Space(vocab, max_tokens, salt)

    async def step(state, run):
        taken = await gibbs.step(PROMPT, state, log_weight, run, max_tokens=max_tokens)
        return taken.state

    matrix = space.matrix(step)
    assert np.abs(matrix.sum(1) - 1).max() < 1e-12
    return drift(space.tilted(log_weight), matrix)


@pytest.mark.parametrize(("gibbs", "vocab", "max_tokens"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("salt", [1, 4])
def test_the_target_is_invariant(gibbs, vocab, max_tokens, salt):
    assert error(gibbs, vocab, max_tokens, salt) < 1e-12


@pytest.mark.parametrize("salt", range(2))
def test_beside_suffix_redraws(salt):
    space = Space(2, 3, salt)
    strategy = QAlign(
        steps=1,
        beta=BETA,
        max_tokens=3,
        moves=(replace(GIBBS, share=0.3), replace(GIBBS, share=0.2, n=3, ess_threshold=0.0)),
    )

    async def step(state, run):
        return (await strategy.step(PROMPT, state, run)).state

    matrix = space.matrix(step)
    assert np.abs(matrix.sum(1) - 1).max() < 1e-12
    assert drift(space.tilted(log_weight), matrix) < 1e-12


def test_every_state_is_reached():
    """A chain of this move alone converges to the target."""
    space = Space(2, 3, 1)

    async def step(state, run):
        return (await GIBBS.step(PROMPT, state, log_weight, run, max_tokens=3)).state

    matrix = space.matrix(step)
    target = space.tilted(log_weight)
    assert np.abs(np.linalg.matrix_power(matrix, 5000)[0] - target).max() < 1e-9


def test_shares_and_segmenters_are_checked():
    with pytest.raises(ConfigError, match="shares sum to at most 1"):
        QAlign(moves=(replace(GIBBS, share=0.6), replace(GIBBS, share=0.5)))
    with pytest.raises(ConfigError, match="take FixedSize"):
        ParticleGibbs(segmenter=Entropy(1.0), ancestors=True)
    by_entropy, exchanging = CASES["by entropy"][0], replace(GIBBS, ancestors=True, share=0.1)
    for given in (
        {"moves": (exchanging,), "cuts": EntropyCuts()},
        {"moves": (exchanging, replace(by_entropy, share=0.1))},
    ):
        with pytest.raises(ConfigError, match="leaves unknown: leave out one of them"):
            QAlign(**given)


# planted mistakes


@dataclass(frozen=True)
class PunctuationLike:
    """A segment ends after token 1, or after two tokens, so that prefixes differ in length."""

    max_tokens: int = 2
    engine_arguments: Mapping = field(default_factory=dict)
    needs_entropy: bool = False

    def ends_before(self, num_drawn, entropy):
        return False

    def ends_after(self, num_drawn, entropy, text):
        return text == "1"


def never_copies_the_pinned(particles, places):
    return RESAMPLED(particles, [places[0], *(i or 1 for i in places[1:])])


def keeps_weights(particles, places):
    return [particles[i] for i in places]


RESAMPLED = particle_gibbs._resampled


@pytest.mark.parametrize("wrong", [never_copies_the_pinned, keeps_weights])
@pytest.mark.parametrize("salt", [1, 4])
def test_resampling_mistakes_move_the_target(wrong, salt, monkeypatch):
    monkeypatch.setattr(particle_gibbs, "_resampled", wrong)
    assert error(GIBBS, 2, 3, salt) > 1e-4


def ignores_the_rest(self, state, prefix, rest, growth):
    return True


@pytest.mark.parametrize("salt", [1, 4])
def test_an_answer_at_its_limit_may_not_get_another_prefix(salt, monkeypatch):
    """After a shorter prefix the rest of an answer that was cut off would go on."""
    ends = PunctuationLike()
    gibbs = replace(GIBBS, segmenter=ends, ancestors=True)
    assert error(gibbs, 3, 3, salt) < 1e-12
    monkeypatch.setattr(ParticleGibbs, "_fits", ignores_the_rest)
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        error(gibbs, 3, 3, salt)
