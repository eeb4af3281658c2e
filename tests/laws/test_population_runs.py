"""Populations in a run: notes, streaming, budgets, journals, and prompts that do not wait."""

import asyncio
import math
from dataclasses import dataclass

import pytest
from biased_toy import BiasedToy
from particle_law import PROMPT, strategy

from rsalign import (
    Beam,
    Budget,
    Dvts,
    EarlyDrop,
    FixedSize,
    Journal,
    MajorityVote,
    Matching,
    ParticleGibbs,
    Particles,
    Prompt,
    QAlign,
    align,
)
from rsalign.core.tasks import concurrently
from rsalign.populations.particle import normalised
from rsalign.selectors.extraction import LastNumber
from rsalign.testing import ToyPolicy, ToyReward

SHORT = FixedSize(2)
PARTICLES = Particles(n=6, segmenter=SHORT, max_tokens=8, ess_threshold=1.0)
EVERY = {
    "particles": PARTICLES,
    "particles, vote": Particles(
        n=6, segmenter=SHORT, max_tokens=8, answer=MajorityVote(extract=LastNumber())
    ),
    "moved particles": Particles(n=4, segmenter=SHORT, max_tokens=8, rejuvenate=1),
    "particles, by tokens": Particles(
        n=3, segmenter=SHORT, max_tokens=5, tokens=Matching("[12 ]*")
    ),
    "beam": Beam(width=2, branch=3, segmenter=SHORT, max_tokens=8),
    "dvts": Dvts(subtrees=3, branch=2, segmenter=SHORT, max_tokens=8),
    "early drop": EarlyDrop(n=8, first=2, max_tokens=8),
    "particle gibbs": QAlign(
        steps=6, max_tokens=8, moves=(ParticleGibbs(segmenter=SHORT, share=0.7),)
    ),
}


def run(of, seed=0, policy=None, **given):
    return asyncio.run(
        align(PROMPT, of, policy=policy or BiasedToy(5), reward=ToyReward(), seed=seed, **given)
    )


@pytest.mark.parametrize("of", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("limit", [3, 10, 25, 60])
def test_a_budget_returns_the_best_of_what_is_complete(of, limit):
    for seed in range(6):
        result = run(of, seed, budget=Budget(policy_tokens=limit))
        assert result.usage.policy_tokens_drawn <= limit
        complete = [
            one.candidate.tokens
            for one in result.trace.proposals
            if one.candidate.response.complete
        ]
        assert result.candidate.response.complete or not complete
        if complete:
            assert result.candidate.tokens in complete


@pytest.mark.parametrize("of", EVERY.values(), ids=EVERY)
def test_a_journal_replays_every_draw(of, tmp_path):
    first = run(of, journal=Journal(tmp_path / "draws.jsonl"))
    again = run(of, journal=Journal(tmp_path / "draws.jsonl"))
    assert again.candidate == first.candidate
    assert again.usage.replayed == again.usage.policy_requests > 0
    assert again.trace.notes == first.trace.notes


def test_what_all_particles_share_is_streamed_before_the_end():
    of = Particles(n=3, segmenter=FixedSize(1), beta=0.3, ess_threshold=1.0, max_tokens=16)
    early = 0
    for seed in range(20):
        pieces = []
        result = run(of, seed, on_commit=pieces.append)
        assert sum(pieces, ()) == result.candidate.tokens
        early += len(pieces) > 1
    assert early > 5


def test_prompts_do_not_wait_for_each_other():
    """While one prompt's draw is held, another prompt goes through all of its rounds."""

    @dataclass(frozen=True)
    class Held(ToyPolicy):
        release: asyncio.Event | None = None

        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            if prefix[0] == 2:
                await self.release.wait()
            return await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
            )

    async def main():
        policy = Held(5, release=asyncio.Event())
        done = []

        async def answer(first):
            await align(Prompt((), (first,)), PARTICLES, policy=policy, reward=ToyReward())
            done.append(first)
            policy.release.set()

        await concurrently([answer(2), answer(1)])
        return done

    assert asyncio.run(main()) == [1, 2]


def test_notes_are_those_of_the_last_weights():
    result = run(strategy(n=5, ess_threshold=0.0, max_tokens=4))
    notes, rounds = result.trace.notes, result.trace.notes["num_rounds"]
    last = notes["log_weights"][-5:]
    weights = normalised(last)
    assert len(notes["log_weights"]) == len(notes["ancestors"]) == 5 * rounds
    assert notes["num_resamplings"] == 0
    assert notes["log_z"] == pytest.approx(math.log(math.fsum(map(math.exp, last)) / 5))
    assert notes["effective_sample_size"] == pytest.approx(1 / sum(w * w for w in weights))
    # without resampling ln w is the weight itself
    assert notes["kl"] == pytest.approx(
        sum(w * log for w, log in zip(weights, last, strict=True)) - notes["log_z"]
    )


def test_complete_answers_are_never_drawn_on():
    for seed in range(20):
        for of in EVERY.values():
            result = run(of, seed)
            for proposal in result.trace.proposals:
                assert 0 not in proposal.candidate.tokens[:-1]
            assert result.candidate.response.complete
