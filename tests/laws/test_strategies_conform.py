"""Every strategy, every toy: the same public checks that third parties run."""

import asyncio
import inspect
import math
from dataclasses import dataclass, replace

import pytest

from rsalign import (
    BestOf,
    Chunks,
    Conformal,
    Entropy,
    FixedSize,
    Gsi,
    LookAhead,
    LowConfidence,
    Matching,
    Message,
    ParticleGibbs,
    Plain,
    Prompt,
    Residual,
    Rsd,
    Speculate,
)
from rsalign.allocation import Blend
from rsalign.chains.beta_rules import TargetKL, TargetSampleSize
from rsalign.chains.cuts import BlockCuts, EntropyCuts, FixedCuts, SegmentCuts
from rsalign.chains.stopping import DecidedLead, EffectiveSamples
from rsalign.core.types import Response, Stop
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant, Line
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
    SelfCertainty,
    Soft,
    StatisticalRejection,
    TopFraction,
)
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.utilities import Rouge1
from rsalign.strategies import STRATEGIES
from rsalign.strategies.allocated import Allocated
from rsalign.strategies.arithmetic_sampling import ArithmeticSampling
from rsalign.strategies.beam import Beam
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.cautious import Cautious
from rsalign.strategies.deep_conf import DeepConf
from rsalign.strategies.distinct import Distinct
from rsalign.strategies.dvts import Dvts
from rsalign.strategies.early_drop import EarlyDrop
from rsalign.strategies.early_stop import EarlyStop
from rsalign.strategies.particles import Particles
from rsalign.strategies.power import Power
from rsalign.strategies.priority_sampling import PrioritySampling
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.strategies.stochastic_beam import StochasticBeam
from rsalign.strategies.tree_search import TreeSearch
from rsalign.testing import (
    EOS,
    ToyPolicy,
    ToyReward,
    check_policy,
    check_reward,
    check_strategy,
)

PROMPT = Prompt((Message("user", "1"),), (1,))


@dataclass(frozen=True)
class Shorter:
    """A judge for `Knockout`."""

    async def prefer(self, prompt, one, other):
        return 0.5 + 0.1 * (len(other.tokens) - len(one.tokens)) / 6


SELECTIONS = [
    Hard(),
    Soft(temperature=0.5),
    MajorityVote(extract=LastNumber()),
    RewardWeightedVote(extract=LastNumber(), temperature=0.5),
    ConfidenceWeightedVote(extract=LastNumber()),
    SelfCertainty(extract=LastNumber()),
    BestOfMajority(extract=LastNumber(), share=0.5),
    MinimumBayesRisk(utility=Rouge1(), temperature=0.5),
    Knockout(judge=Shorter()),
    TopFraction(m=2),
    ChiSquaredPessimism(beta=0.5),
    StatisticalRejection(beta=0.5),
    Last(),
    ByWeight(),
]
PARTS = {"draft": ToyPolicy(4, salt=60), "other": ToyPolicy(4, salt=61)}
CARDS = Cards(
    segmenter=FixedSize(2),
    threshold=Line(target=1.2),
    acceptance=SoftAcceptance(beta=0.4),
    max_tokens=9,
    max_tries=4,
)
EXAMPLES = [
    Plain(max_tokens=6),
    BestOf(n=4, inner=Plain(max_tokens=6)),
    BestOf(n=2, inner=BestOf(n=3, inner=Plain(max_tokens=5))),
    *(BestOf(n=5, inner=Plain(max_tokens=6), select=select) for select in SELECTIONS),
    EarlyStop(n=7, inner=Plain(max_tokens=6), select=MajorityVote(extract=LastNumber())),
    EarlyStop(
        n=7,
        inner=Plain(max_tokens=6),
        select=MajorityVote(extract=LastNumber()),
        stopping=DecidedLead(error=0.3),
    ),
    Allocated(
        inner=BestOf(n=5, inner=Plain(max_tokens=6), select=MajorityVote(extract=LastNumber())),
        rule=Blend(),
    ),
    EarlyStop(
        n=9,
        stopping=DecidedLead(error=0.3),
        inner=Plain(max_tokens=3),
        select=MajorityVote(extract=LastNumber()),
    ),
    Allocated(
        inner=BestOf(n=4, inner=Plain(max_tokens=3), select=MajorityVote(extract=LastNumber())),
        rule=Blend(),
        batch=1,
    ),
    EarlyStop(
        n=5,
        share=0.6,
        at_least=2,
        batch=1,
        inner=Plain(max_tokens=3),
        select=SelfCertainty(extract=LastNumber()),
    ),
    CARDS,
    replace(CARDS, proposals="auto", acceptance=HardAcceptance(), when_exhausted="last"),
    replace(CARDS, proposals=3, threshold=Constant(value=1.9), hopeless_below=0.5),
    BestOf(n=3, inner=CARDS),
    Calibrate(inner=replace(CARDS, threshold=None), draws=3),
    BestOf(n=2, inner=Calibrate(inner=CARDS, draws=3, num_sds=1)),
    QAlign(steps=9, beta=0.5, max_tokens=6),
    QAlign(
        steps=9,
        beta=TargetKL(nats=0.7),
        max_tokens=6,
        cuts=EntropyCuts(),
        restart=0.2,
        candidates=3,
        combine="i_sir",
        chains=3,
        pool=8,
        tempering=(2.0, math.inf),
        answer=MajorityVote(extract=LastNumber()),
        burn_in=2,
        stopping=DecidedLead(error=0.3),
        truncated="excluded",
    ),
    QAlign(
        steps=40,
        beta=TargetSampleSize(share=0.5),
        max_tokens=6,
        cuts=SegmentCuts(segmenter=FixedSize(2)),
        chains=2,
        pool=4,
        answer=MinimumBayesRisk(utility=Rouge1()),
        recycle=False,
        stopping=EffectiveSamples(at_least=8.0),
    ),
    BestOf(n=3, inner=QAlign(steps=4, max_tokens=6, cuts=BlockCuts(size=2))),
    QAlign(
        steps=9,
        beta=0.5,
        max_tokens=6,
        moves=(
            ParticleGibbs(segmenter=FixedSize(2), n=3, share=0.3),
            ParticleGibbs(segmenter=Entropy(0.9, 1, 3), share=0.3, twist=LookAhead()),
        ),
    ),
    QAlign(
        steps=9,
        max_tokens=6,
        moves=(ParticleGibbs(segmenter=FixedSize(2), n=3, share=0.9, ancestors=True),),
    ),
    QAlign(steps=9, max_tokens=6, proposal="draft", restart=0.2, candidates=2, chains=2, pool=4),
    Quest(steps=9, beta=0.5, max_tokens=6, cuts=FixedCuts(decay=0.9)),
    Power(steps=9, alpha=3.0, max_tokens=6, answer=Hard()),
    Rejection(beta=0.5, bound=1.5, max_tokens=6, at_once=3),
    Rejection(beta=0.01, bound=2.0, max_tokens=6, max_draws=3),
    Particles(n=5, segmenter=FixedSize(2), max_tokens=9),
    Particles(
        n=3,
        segmenter=Entropy(0.9, min_tokens=1, max_tokens=3),
        beta=0.3,
        twist=LookAhead(rollouts=2, horizon=2),
        resample=Residual(),
        ess_threshold=1.0,
        rejuvenate=2,
        max_tokens=6,
        answer=MinimumBayesRisk(utility=Rouge1()),
    ),
    BestOf(n=2, inner=Particles(n=3, segmenter=FixedSize(2), max_tokens=6, answer=Last())),
    Beam(width=2, branch=3, segmenter=FixedSize(2), max_tokens=9),
    Dvts(
        subtrees=2,
        branch=2,
        segmenter=FixedSize(3),
        max_tokens=9,
        answer=MajorityVote(extract=LastNumber()),
    ),
    EarlyDrop(n=7, first=1, keep=0.3, max_tokens=9),
    Speculate(segmenter=FixedSize(2), max_tokens=9, max_tries=3),
    Rsd(segmenter=Entropy(0.9, 1, 3), threshold=Line(target=1.2), max_tokens=9),
    Rsd(segmenter=FixedSize(2), acceptance=Conformal(alpha=0.4, draws=4), max_tokens=9),
    Gsi(segmenter=FixedSize(2), n=3, threshold=Constant(value=0.5), max_tokens=9),
    Gsi(segmenter=FixedSize(2), n=2, acceptance=Conformal(alpha=0.4, draws=4), max_tokens=9),
    Chunks(segmenter=FixedSize(2), max_tokens=9),
    Chunks(
        segmenter=FixedSize(1),
        attributes=("draft", "other"),
        weights=(1.5, -0.5),
        proposal="other",
        ahead=3,
        max_tokens=9,
        max_tries=3,
    ),
    ArithmeticSampling(n=5, select=MajorityVote(extract=LastNumber()), max_tokens=6),
    ArithmeticSampling(n=3, select=SelfCertainty(extract=LastNumber()), max_tokens=6),
    DeepConf(select=MajorityVote(extract=LastNumber()), n=6, warm_up=2, window=1, max_tokens=6),
    replace(CARDS, segmenter=LowConfidence(window=2, below=-1.2, max_tokens=4)),
    Distinct(n=4, max_tokens=4),
    Distinct(n=9, max_draws=12, max_tokens=3, select=MajorityVote(extract=LastNumber())),
    PrioritySampling(n=4, max_tokens=6),
    PrioritySampling(n=3, alternatives=4, constraint=Matching("[12 ]*"), max_tokens=6),
    StochasticBeam(width=3, max_tokens=5),
    StochasticBeam(width=2, max_tokens=6, select=MajorityVote(extract=LastNumber())),
    TreeSearch(segmenter=FixedSize(2), rounds=4, max_tokens=9),
    TreeSearch(
        segmenter=Entropy(0.9, min_tokens=1, max_tokens=3),
        rounds=3,
        branch=2,
        rollouts=2,
        evaluate=LastNumber(),
        max_tokens=6,
        answer=MajorityVote(extract=LastNumber()),
    ),
    Cautious(most_trials=4, marks="23", trial_tokens=3, max_tokens=7),
    BestOf(n=2, inner=Cautious(marks="1", max_tokens=5)),
]


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
@pytest.mark.parametrize("salt", range(3))
def test_strategies(strategy, salt):
    asyncio.run(
        check_strategy(strategy, PROMPT, ToyPolicy(4, salt), ToyReward(salt), eos=EOS, parts=PARTS)
    )


def test_every_strategy_is_checked():
    assert {type(example) for example in EXAMPLES} == set(STRATEGIES.values())
    assert {type(select) for select in SELECTIONS} == set(SELECTORS.values())


@pytest.mark.parametrize("kind", [*STRATEGIES.values(), *SELECTORS.values()])
def test_everything_states_its_law(kind):
    header = inspect.getmodule(kind).__doc__
    assert "Law " in header
    assert "Cost " in header


@pytest.mark.parametrize("salt", range(3))
def test_toy_policy(salt):
    asyncio.run(check_policy(ToyPolicy(4, salt), [(1,), (2, 3), (1, 1, 2)], eos=EOS))


def test_toy_reward():
    responses = [
        Response((1, 2), "1 2", Stop.BOUNDARY),
        Response((1, 0), "1", Stop.EOS),
        Response((), "", None),
    ]
    asyncio.run(check_reward(ToyReward(), [(PROMPT, response) for response in responses]))


class Doubling(ToyPolicy):
    """Wrong on purpose: draws one token more than it may."""

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens + 1, key=key, boundary=boundary
        )


class Unseeded(ToyPolicy):
    """Wrong on purpose: what is drawn depends on how often it was asked."""

    calls = 0

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        Unseeded.calls += 1
        return await super().extend(
            prefix,
            max_new_tokens=max_new_tokens,
            key=key.child(Unseeded.calls),
            boundary=boundary,
        )


@pytest.mark.parametrize("kind", [Doubling, Unseeded])
def test_wrong_policies_are_caught(kind):
    with pytest.raises(AssertionError):
        asyncio.run(check_policy(kind(4), [(1,), (2, 3), (1, 1, 2)], eos=EOS))
