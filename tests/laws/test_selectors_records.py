"""What best-of-n records of a selection, when it needs a reward, and what it refuses."""

import asyncio
import math
from dataclasses import dataclass

import pytest

from rsalign import (
    BestOf,
    Candidate,
    ConfigError,
    Key,
    Message,
    Plain,
    Prompt,
    Response,
    RewardError,
    Run,
    Stop,
    Verdict,
    align,
)
from rsalign.core.types import Certainty
from rsalign.selectors import (
    SELECTORS,
    BestOfMajority,
    ByWeight,
    ChiSquaredPessimism,
    ConfidenceWeightedVote,
    Hard,
    Knockout,
    Last,
    MajorityVote,
    MinimumBayesRisk,
    RewardWeightedVote,
    Selection,
    SelfCertainty,
    Soft,
    StatisticalRejection,
    TopFraction,
)
from rsalign.selectors.extraction import LastNumber, WholeText
from rsalign.selectors.utilities import ExactMatch, Rouge1
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
LAST = LastNumber()


def pool(*pairs, log_probs=(-0.5,)):
    return [
        Candidate(
            Response((i + 1,), text, Stop.EOS, log_probs, certainty=Certainty((0.1,), (i % 3,))),
            reward,
        )
        for i, (text, reward) in enumerate(pairs)
    ]


def select(selector, candidates):
    return asyncio.run(selector.select(PROMPT, candidates, Key(0)))


@dataclass(frozen=True)
class Same:
    value: float = 0.5

    async def prefer(self, prompt, one, other):
        return self.value


EVERY = [
    Hard(),
    Soft(temperature=0.7),
    MajorityVote(extract=LAST),
    RewardWeightedVote(extract=LAST, temperature=0.7),
    ConfidenceWeightedVote(extract=LAST),
    BestOfMajority(extract=LAST, share=0.4),
    MinimumBayesRisk(utility=Rouge1()),
    MinimumBayesRisk(utility=Rouge1(), temperature=0.7),
    TopFraction(m=2.5),
    ChiSquaredPessimism(beta=0.9),
    Knockout(judge=Same()),
    StatisticalRejection(beta=0.9),
    Last(),
    ByWeight(),
    SelfCertainty(extract=LAST),
]


def test_every_selector_is_here():
    assert {type(selector) for selector in EVERY} == set(SELECTORS.values())


def record(selector, n=4):
    run = Run(ToyPolicy(3), ToyReward(), Key(5))
    asyncio.run(BestOf(n=n, inner=Plain(max_tokens=3), select=selector).sample(PROMPT, run))
    return run.trace


@pytest.mark.parametrize("selector", EVERY, ids=repr)
def test_the_record(selector):
    trace = record(selector)
    taken = [p for p in trace.proposals if p.verdict is Verdict.ACCEPTED]
    assert len(trace.proposals) == 4
    assert [p.candidate.tokens for p in taken] == [trace.committed]
    assert math.fsum(math.exp(p.log_accept) for p in trace.proposals) == pytest.approx(1)
    assert trace.notes["rewards"] == tuple(p.candidate.reward for p in trace.proposals)
    assert 0 <= trace.notes["kl_estimate"] <= math.log(4)
    assert 1 <= trace.notes["effective_sample_size"] <= 4 + 1e-9
    for value in trace.notes.values():
        assert value is None or isinstance(value, float | int | str | bool | tuple)


def test_notes_of_each():
    assert record(Hard()).notes["kl_formula"] == pytest.approx(math.log(4) - 3 / 4)
    assert record(TopFraction(m=2)).notes["kl_formula"] == pytest.approx(math.log(2))
    assert record(Hard()).notes["effective_sample_size"] == 1
    candidates = pool(("1", -0.4), ("2", 1.7), ("1", 0.2), ("no", 2.0), ("2", 1.7), ("3", -3.0))
    votes = select(MajorityVote(extract=LAST), candidates).notes
    assert votes["vote_shares"] == pytest.approx((1 / 3, 1 / 3, 1 / 3, 0, 1 / 3, 1 / 6))
    assert votes["answer"] == "2"
    assert votes["effective_sample_size"] == pytest.approx(6)
    agreement = select(MinimumBayesRisk(utility=ExactMatch(LAST)), candidates).notes
    assert agreement["expected_utilities"] == pytest.approx(votes["vote_shares"])
    draws = pool(("a", 1.0), ("b", 0.0), ("c", 5.0), ("d", 2.0))
    # lambda = max((1 - 2) / 1, (1 + 0 - 2) / 2) = -1/2 and M = 3/2, or with the bound 7/2
    pessimism = select(ChiSquaredPessimism(beta=1.0), draws).notes
    assert pessimism["threshold"] == -0.5
    assert pessimism["normaliser"] == 1.5
    assert pessimism["accept_probs"] == (1.0,)
    assert (pessimism["num_clipped"], pessimism["fell_back"]) == (1, False)
    bounded = select(ChiSquaredPessimism(beta=1.0, reward_max=7.5), draws)
    assert bounded.probs == pytest.approx((0, 0, 5.5 / 8, 2.5 / 8))
    assert bounded.notes["num_clipped"] == 0
    reached = select(ChiSquaredPessimism(beta=1.0, reward_max=5.0), draws)
    assert reached.notes["num_clipped"] == 0  # a reward that is the bound does not exceed it


def test_what_needs_a_reward():
    needs = {repr(selector): BestOf(select=selector).needs_reward for selector in EVERY}
    without = {repr(s) for s in EVERY if isinstance(s, MajorityVote | Knockout)}
    without |= {
        repr(ConfidenceWeightedVote(extract=LAST)),
        repr(MinimumBayesRisk(utility=Rouge1())),
        repr(SelfCertainty(extract=LAST)),
        repr(Last()),
        repr(ByWeight()),
    }
    assert {name for name, needed in needs.items() if not needed} == without
    vote = MajorityVote(extract=WholeText())
    assert BestOf(inner=BestOf(), select=vote).needs_reward

    def answer(strategy):
        return asyncio.run(align(PROMPT, strategy, policy=ToyPolicy(3)))

    result = answer(BestOf(n=5, inner=Plain(max_tokens=2), select=vote))
    assert result.reward is None
    assert result.candidate.response.text == result.trace.notes["answer"]
    with pytest.raises(ConfigError, match="needs a reward"):
        answer(BestOf(inner=Plain(max_tokens=2)))
    with pytest.raises(ConfigError, match="needs a reward"):
        answer(BestOf(inner=BestOf(inner=Plain(max_tokens=2)), select=vote))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BestOf(select=Hard), "give a selector"),
        (lambda: BestOf(select="hard"), "give a selector"),
        (lambda: BestOf(select=BestOf()), "give a selector"),
        (lambda: Soft(temperature=0), "above 0"),
        (lambda: Soft(temperature=math.nan), "above 0"),
        (lambda: Soft(temperature="warm"), "'warm'"),
        (lambda: RewardWeightedVote(extract=LAST, temperature=-1), "above 0"),
        (lambda: MajorityVote(extract=LastNumber), "give an extractor"),
        (lambda: MajorityVote(extract="last_number"), "give an extractor"),
        (lambda: MajorityVote(extract=LAST, ties="last"), "'reward' or 'first'"),
        (lambda: BestOfMajority(extract=LAST, share=0), "at most 1"),
        (lambda: BestOfMajority(extract=LAST, share=1.5), "1.5"),
        (lambda: MinimumBayesRisk(utility=Rouge1), "give a utility"),
        (lambda: MinimumBayesRisk(utility=Rouge1(), temperature=0), "above 0"),
        (lambda: Knockout(judge=Same), "prefer"),
        (lambda: Knockout(judge=print), "prefer"),
        (lambda: TopFraction(m=0.5), "at least 1"),
        (lambda: ChiSquaredPessimism(beta=0), "above 0"),
        (lambda: ChiSquaredPessimism(beta=1, reward_max=math.inf), "finite"),
        (lambda: Selection(1, (1.0, 0.0)), "allow the chosen"),
        (lambda: Selection(2, (0.5, 0.5)), "one for each candidate"),
        (lambda: Selection(0, (0.5, 0.4)), "sum to 1"),
        (lambda: Selection(0, (1.5, -0.5)), "not negative"),
        (
            lambda: select(ConfidenceWeightedVote(extract=LAST), pool(("1", 0), log_probs=None)),
            "no log-probabilities",
        ),
    ],
)
def test_refusals(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize("value", [math.nan, 1.2, -0.1, "yes", None])
def test_a_preference_is_a_probability(value):
    with pytest.raises(RewardError, match="must be a probability") as refused:
        select(Knockout(judge=Same(value)), pool(("1", 0.3), ("2", -1.0)))
    assert refused.value.prompt == PROMPT
