"""A response drawn in segments ends at the stop string at which one drawn at once ends."""

import asyncio
from dataclasses import dataclass

import pytest
from cards_law import PROMPT, SALTS, Setting, line, over, soft

from rsalign import Budget, FixedSize, Key, Plain, Run, Sampling, Stop, align
from rsalign.core.journal import Journal
from rsalign.core.types import Certainty
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant, Line
from rsalign.strategies.cards import Cards
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law, law_of

STOPS = ("2 1 1", "1 2", "2 1 1 1")  # across two tokens, and across three


@dataclass(frozen=True)
class Forgetful(ToyPolicy):
    """Looks for stop strings as engines do: in what it draws itself, whatever was kept."""

    stops: tuple = STOPS

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        drawn = await ToyPolicy.extend(
            self, prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        for length in range(1, len(drawn.tokens) + 1):
            text = self.text(drawn.tokens[:length])
            for stop in self.stops:
                if stop in text:
                    return drawn.upto(length, Stop.STOP, stop)
        return drawn


@dataclass(frozen=True)
class Stopping(Forgetful):
    """And says what they are."""

    @property
    def sampling(self):
        return Sampling(stop=self.stops)


def always(size, max_tokens):
    """Segments without a test: pi, drawn piecemeal."""
    return Cards(
        segmenter=FixedSize(size),
        threshold=Constant(value=-9.0),
        acceptance=HardAcceptance(),
        max_tokens=max_tokens,
        max_tries=1,
    )


def answers(strategy, policy):
    """The law of all that an answer is, and not of its tokens alone."""

    async def answer(key):
        response = (await strategy.sample(PROMPT, Run(policy, ToyReward(), key))).response
        return response.tokens, response.text, response.stop, response.stop_reason

    return law(answer)


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("size", [1, 2, 3])
def test_segments_end_where_the_whole_does(salt, size):
    at_once = answers(Plain(max_tokens=4), Forgetful(3, salt))
    assert {reason for _, _, _, reason in at_once} == {None, "2 1 1", "1 2"}
    assert distance(answers(always(size, 4), Stopping(3, salt)), at_once) < 1e-12
    assert distance(answers(always(size, 4), Forgetful(3, salt)), at_once) > 0.01


def test_the_law_at_once_is_what_it_should_be():
    """By hand: every response that is over, and was not before."""
    policy = Stopping(3, 1)
    expected, open_ = {}, {(): 1.0}
    while open_:
        tokens, mass = open_.popitem()
        for token, p in enumerate(policy.probs(PROMPT.tokens + tokens)):
            longer = (*tokens, token)
            (expected if over(longer, 4, STOPS) else open_)[longer] = mass * p
    assert distance(law_of(Plain(max_tokens=4), policy, ToyReward(), PROMPT), expected) < 1e-12
    assert not any(" ".join(map(str, y[:-1])).count(stop) for y in expected for stop in STOPS)


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize(("size", "tries"), [(1, 2), (2, 1)])
def test_the_law_of_cards(salt, size, tries):
    reward = ToyReward(salt)
    strategy = Cards(
        segmenter=FixedSize(size),
        threshold=Line(target=0.6),
        acceptance=SoftAcceptance(beta=0.7),
        max_tokens=size + 2,
        max_tries=tries,
    )
    stops = ("1 2",)
    case = Setting(
        bar=line(reward.value, 0.6, 0.5, size + 2),
        accept=soft(0.7),
        size=size,
        max_tokens=size + 2,
        tries=tries,
        stops=stops,
    )
    policy = Stopping(3, salt, stops=stops)
    right = case.law(policy, reward.value)
    assert distance(law_of(strategy, policy, reward, PROMPT), right) < 1e-12
    blind = Forgetful(3, salt, stops=stops)
    assert distance(law_of(strategy, blind, reward, PROMPT), right) > 1e-3


def draft(policy, kept, **how):
    """A response after `kept` that ends at a stop string which begins there."""

    async def main(key):
        return await Run(policy, ToyReward(), key).draft(PROMPT, kept, max_tokens=8, **how)

    keys = (Key(seed) for seed in range(1000))
    drafts = (asyncio.run(main(key)) for key in keys)
    return next(d for d in drafts if d.tokens[: len(kept) + 1] == (*kept, 2))


def test_what_belongs_to_dropped_tokens_is_dropped():
    policy, kept = Stopping(3, stops=("1 2",)), (2, 1)
    known = {"kept_log_probs": (-1.0, -2.0), "kept_certainty": Certainty((1.0, 2.0), (3.0, 4.0))}
    response = draft(policy, kept, **known).response
    assert (response.tokens, response.stop, response.stop_reason) == ((2, 1, 2), Stop.STOP, "1 2")
    assert response.text == "2 "
    assert len(response.log_probs) == len(response.certainty.entropies) == 3
    assert draft(policy, kept).response == response


def test_a_stop_token_comes_before_a_stop_string():
    @dataclass(frozen=True)
    class StopToken(Stopping):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            drawn = await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
            )
            return drawn.upto(1, Stop.STOP, drawn.tokens[0])

    response = draft(StopToken(3, stops=("1 2",)), (1,)).response
    assert (response.tokens, response.stop, response.stop_reason) == ((1, 2), Stop.STOP, 2)


def test_dropped_tokens_were_drawn(tmp_path):
    """And are on record: a journal replays them at the same cost."""
    policy, strategy = Stopping(3, 1), always(3, 12)

    def total(budget=None, journal=None):
        async def main():
            drawn = kept = 0
            for seed in range(60):
                result = await align(
                    PROMPT,
                    strategy,
                    policy=policy,
                    reward=ToyReward(),
                    seed=seed,
                    budget=budget,
                    journal=journal,
                )
                drawn += result.usage.policy_tokens_drawn
                kept += result.usage.policy_tokens_kept
                assert EOS not in result.candidate.tokens[:-1]
            return drawn, kept

        return asyncio.run(main())

    drawn, kept = total()
    assert drawn > kept
    with Journal(tmp_path / "journal") as journal:
        assert total(journal=journal) == (drawn, kept)
    with Journal(tmp_path / "journal") as journal:
        assert total(journal=journal) == (drawn, kept)
        assert journal.statistics().recorded == 0
    assert total(Budget(policy_tokens=100)) == (drawn, kept)
