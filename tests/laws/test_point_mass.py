"""A policy with one possible answer is asked once, the user is told, and no law changes."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from rsalign import (
    Aligner,
    BestOf,
    Calibrate,
    Cards,
    FixedSize,
    Key,
    Line,
    Message,
    Plain,
    Prompt,
    QAlign,
    Run,
    Sampling,
    Verdict,
    align,
)
from rsalign import selectors as select
from rsalign.chains.beta_rules import TargetKL
from rsalign.core.types import Segment
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.selectors.estimators import tilted_weights
from rsalign.selectors.extraction import LastNumber
from rsalign.strategies.arithmetic_sampling import ArithmeticSampling
from rsalign.strategies.beam import Beam
from rsalign.strategies.cards import TriesExhaustedError
from rsalign.strategies.cautious import Cautious
from rsalign.strategies.deep_conf import DeepConf
from rsalign.strategies.distinct import Distinct
from rsalign.strategies.dvts import Dvts
from rsalign.strategies.early_drop import EarlyDrop
from rsalign.strategies.early_stop import EarlyStop
from rsalign.strategies.particles import Particles
from rsalign.strategies.power import Power
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.strategies.tree_search import TreeSearch
from rsalign.testing import ToyPolicy, ToyReward, law

PROMPT = Prompt((Message("user", "1"),), (1,))
PLAIN = Plain(max_tokens=6)
VOTE = select.MajorityVote(extract=LastNumber())
GREEDY = Sampling(temperature=0)


class Highest(Key):
    """Takes the most probable choice, wherever it is asked."""

    def child(self, *labels):
        return self

    def categorical(self, probs):
        return max(range(len(probs)), key=probs.__getitem__)


@dataclass(frozen=True)
class One(ToyPolicy):
    """The toy's most probable answer, and no other.

    Attributes:
        law: what it says of itself; None says nothing, but that each token was certain.
    """

    law: Sampling | None = GREEDY
    asked: list = field(default_factory=list, compare=False)

    @property
    def sampling(self):
        return self.law or Sampling()

    def with_sampling(self, law):
        return One(self.vocab, self.salt, law=law, asked=self.asked)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        self.asked.append(prefix)
        drawn = await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=Highest(0), boundary=boundary
        )
        return Segment(drawn.tokens, (0.0,) * len(drawn.tokens), drawn.stop)


CARDS = Cards(
    segmenter=FixedSize(2),
    threshold=Line(target=9.0),
    acceptance=SoftAcceptance(beta=0.5),
    max_tokens=6,
)
WHOLE = {  # strategies that draw whole answers, one of which is enough
    "best_of": BestOf(n=8, inner=PLAIN),
    "best_of, soft": BestOf(n=8, inner=PLAIN, select=select.Soft(temperature=1.0)),
    "best_of, pessimistic": BestOf(n=8, inner=PLAIN, select=select.ChiSquaredPessimism(beta=1.0)),
    "early_stop": EarlyStop(n=16, inner=PLAIN, select=VOTE),
    "rejection": Rejection(beta=0.5, bound=9.0, max_tokens=6),
    "rejection, accepted": Rejection(beta=0.5, bound=-9.0, max_tokens=6),
    "qalign": QAlign(max_tokens=6, burn_in=5),
    "qalign, replicas": QAlign(max_tokens=6, chains=3, tempering=(2.0, math.inf), answer=VOTE),
    "qalign, pool": QAlign(max_tokens=6, pool=8, beta=TargetKL(nats=1.0), answer=select.Hard()),
    "quest": Quest(max_tokens=6),
    "power": Power(max_tokens=6),
    "particles": Particles(n=5, segmenter=FixedSize(9), max_tokens=6),
    "beam": Beam(segmenter=FixedSize(9), max_tokens=6),
    "dvts": Dvts(segmenter=FixedSize(9), max_tokens=6),
    "early_drop": EarlyDrop(n=4, max_tokens=6),
    "arithmetic_sampling": ArithmeticSampling(n=4, select=VOTE, max_tokens=6),
    "deep_conf": DeepConf(select=VOTE, n=4, max_tokens=6),
    "distinct": Distinct(n=4, max_tokens=6),
    "tree_search": TreeSearch(segmenter=FixedSize(2), max_tokens=6),
    "cautious": Cautious(max_tokens=6),
    "best_of chains": BestOf(n=3, inner=QAlign(max_tokens=6)),
    "best_of best_of": BestOf(n=3, inner=BestOf(n=3, inner=PLAIN)),
    "early_stop rejection": EarlyStop(
        n=5, inner=Rejection(beta=1.0, bound=9.0, max_tokens=6), select=VOTE
    ),
}
SEGMENTS = {"cards": CARDS, "best_of cards": BestOf(n=4, inner=CARDS)}
ONLY = asyncio.run(One(4).extend((1,), max_new_tokens=6, key=Key(0))).tokens


def run(strategy, policy, seed=0):
    return asyncio.run(align(PROMPT, strategy, policy=policy, reward=ToyReward(), seed=seed))


@pytest.mark.parametrize("strategy", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    ("sampling", "why"),
    [
        (GREEDY, "temperature=0 is greedy"),
        (Sampling(top_k=1), "top_k=1"),
        (Sampling(min_p=1.0), "min_p=1.0"),
        (Sampling(top_p=1e-9), "top_p=1e-09"),
        (Sampling(allowed_token_ids=(2, 2)), "allowed_token_ids"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whole_answers_are_drawn_once(strategy, sampling, why):
    policy = One(4, law=sampling)
    result = run(strategy, policy)
    assert result.candidate.tokens == ONLY
    assert len(policy.asked) == result.usage.reward_calls == 1
    assert any("one possible answer" in text and why in text for text in result.warnings)


@pytest.mark.parametrize("strategy", SEGMENTS.values(), ids=SEGMENTS)
@pytest.mark.parametrize("proposals", [1, 4, "auto"])
def test_segments_are_drafted_once(strategy, proposals):
    if isinstance(strategy, BestOf):
        strategy = replace(strategy, inner=replace(strategy.inner, proposals=proposals))
    else:
        strategy = replace(strategy, proposals=proposals)
    policy = One(4)
    result = run(strategy, policy)
    assert result.candidate.tokens == ONLY
    assert len(policy.asked) == math.ceil(len(ONLY) / 2)
    assert result.usage.reward_calls == 1 + len(policy.asked)  # the prompt's too
    assert any("one possible answer" in text for text in result.warnings)
    assert any("forced" in text for text in result.warnings)


def test_calibration_too():
    policy = One(4)
    result = run(Calibrate(inner=Cards(segmenter=FixedSize(2), max_tokens=6), draws=8), policy)
    assert len(policy.asked) == 1 + math.ceil(len(ONLY) / 2)
    assert result.trace.notes["target"] == ToyReward().value(ONLY)
    assert len(result.warnings) == 2


@pytest.mark.parametrize(
    "strategy",
    [
        CARDS,
        Rejection(beta=0.5, bound=9.0, max_tokens=6, at_once=1),
        QAlign(max_tokens=6, burn_in=5),
        Power(max_tokens=6),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_draw_whose_tokens_were_all_certain_is_not_repeated(strategy):
    """Whatever makes them so: a bias, a narrow nucleus, or the model."""
    policy = One(4, law=None)
    result = run(strategy, policy)
    assert result.candidate.tokens == ONLY
    assert len(policy.asked) == (3 if strategy is CARDS else 1)


def test_one_draw_is_no_reason_to_warn():
    for strategy in (PLAIN, BestOf(n=1, inner=PLAIN)):
        assert run(strategy, One(4)).warnings == ()
    assert run(BestOf(n=4, inner=PLAIN), ToyPolicy(4)).warnings == ()


def test_a_strategy_of_ones_own_may_vary_without_the_policy():
    """It does not say that only the policy makes its answers differ, and so it is run n times."""

    @dataclass(frozen=True)
    class Own:
        async def sample(self, prompt, run):
            other = Prompt(prompt.messages, (1 + run.key.child("x").below(3),))
            return await PLAIN.sample(other, run)

    policy = One(4)
    assert len(run(BestOf(n=6, inner=Own()), policy).trace.notes["rewards"]) == 6
    assert len(set(policy.asked)) > 1


def verdicts(strategy, policy):
    """The law of all that is on record about one answer, and of failing."""

    async def once(key):
        run = Run(policy, ToyReward(), key)
        try:
            answer = (await strategy.sample(PROMPT, run)).tokens
        except TriesExhaustedError as failed:
            answer = ("failed", len(failed.rejected), failed.kept.tokens)
        return answer, tuple(
            (p.candidate.tokens, p.verdict, round(p.log_accept, 9)) for p in run.trace.proposals
        )

    return law(once)


def right_verdicts(cards):
    """By brute force: each segment tested up to K times, and what happens then."""
    reward, size = ToyReward(), 2
    start = reward.value(())
    leaves = {((), ()): 1.0}
    done = Counter()
    while leaves:
        (kept, record), mass = leaves.popitem()
        longer = ONLY[: len(kept) + size]
        bar = cards.threshold.at(len(longer), prompt_reward=start, max_tokens=cards.max_tokens)
        log_accept = min(0.0, cards.acceptance.log_accept(reward.value(longer), bar))
        accept, shown = math.exp(log_accept), round(log_accept, 9)
        after = done if longer == ONLY else leaves
        for rejections in range(cards.max_tries + 1):
            path = record + ((longer, Verdict.REJECTED, shown),) * rejections
            if rejections < cards.max_tries:
                end = (*path, (longer, Verdict.ACCEPTED, shown))
                p = mass * (1 - accept) ** rejections * accept
            else:
                end = (*path, (longer, Verdict.FORCED, shown))
                p = mass * (1 - accept) ** rejections
                if p and cards.when_exhausted == "fail":
                    done[("failed", cards.max_tries, kept), path] += p
                    continue
            if p:
                after[longer, end] = after.get((longer, end), 0.0) + p
    return done


@pytest.mark.parametrize("sampling", [GREEDY, None], ids=["declared", "seen"])
@pytest.mark.parametrize("proposals", [1, 3])
@pytest.mark.parametrize("when_exhausted", ["best", "last", "fail"])
def test_the_law_of_all_verdicts_is_that_of_drawing_again(when_exhausted, proposals, sampling):
    cards = Cards(
        segmenter=FixedSize(2),
        threshold=Line(target=2.5, prompt_weight=0.1),
        acceptance=SoftAcceptance(beta=2.5),
        max_tokens=6,
        max_tries=3,
        proposals=proposals if sampling else 1,
        when_exhausted=when_exhausted,
    )
    found = verdicts(cards, One(4, law=sampling))
    right = right_verdicts(cards)
    assert set(found) == set(right)
    assert len(right) > 20
    assert max(abs(found[one] - right[one]) for one in right) < 1e-12
    assert math.fsum(right.values()) == pytest.approx(1, abs=1e-12)


def test_so_is_that_of_rejection():
    """Accepted at try k, or forced among equals."""
    strategy = Rejection(beta=2.0, bound=3.0, max_tokens=6, max_draws=5, at_once=2)
    accept = math.exp((ToyReward().value(ONLY) - 3.0) / 2.0)
    found = Counter()
    for (answer, record), p in verdicts(strategy, One(4)).items():
        assert answer == ONLY
        found[len(record), record[-1][1]] += p
    right = {(k + 1, Verdict.ACCEPTED): accept * (1 - accept) ** k for k in range(5)}
    right[6, Verdict.FORCED] = (1 - accept) ** 5
    assert dict(found) == pytest.approx(right, abs=1e-12)
    assert tilted_weights([1.0] * 5, 2.0) == (0.2,) * 5


def test_a_target_out_of_reach_is_said():
    cards = Cards(
        segmenter=FixedSize(2),
        threshold=Line(target=99.0),
        acceptance=HardAcceptance(),
        max_tokens=6,
        max_tries=2,
        hopeless_below=0.5,
    )
    result = run(cards, ToyPolicy(4))
    assert result.trace.notes["hopeless"]
    assert any("out of reach" in text for text in result.warnings)
    number = result.trace.notes["num_segments"]
    assert any(f"{number} of {number} segments" in text for text in result.warnings)


def test_half_of_them_forced_is_not_yet_most():
    """3 segments of one token; a bar that only some of them reach."""
    seen = Counter()
    for seed in range(60):
        cards = Cards(
            segmenter=FixedSize(1),
            threshold=Line(target=0.3, prompt_weight=0.0),
            acceptance=HardAcceptance(),
            max_tokens=4,
            max_tries=2,
        )
        result = run(cards, ToyPolicy(4), seed)
        forced, all_ = result.trace.notes["num_forced"], result.trace.notes["num_segments"]
        warned = any("were forced" in text for text in result.warnings)
        assert warned == (2 * forced > all_)
        if warned:
            assert any(f"{forced} of {all_} segments" in text for text in result.warnings)
        seen[warned, 2 * forced == all_] += 1
    assert len(seen) == 3


def test_a_rule_whose_target_ties_put_out_of_reach_says_so():
    class Right:
        async def score(self, prompt, response):
            return float(response.tokens[0] == 2)

    for beta, said in ((TargetKL(nats=2.0), True), (TargetKL(nats=0.01), False), (0.5, False)):
        strategy = QAlign(beta=beta, pool=16, steps=3, max_tokens=4)
        result = asyncio.run(align(PROMPT, strategy, policy=ToyPolicy(4), reward=Right()))
        notes = result.trace.notes
        assert bool(result.warnings) == said
        if isinstance(beta, TargetKL):
            assert notes["target_unreachable"] == said
            assert notes["beta"] > 1e-3
        else:
            assert "target_unreachable" not in notes
        if said:
            assert "TargetKL(nats=2.0) is out of reach" in result.warnings[0]
            assert f"{notes['beta']:.3g}" in result.warnings[0]


def test_what_the_aligner_shows():
    with Aligner(One(4), ToyReward(), BestOf(n=8, inner=PLAIN)) as aligner:
        one, other = aligner.generate(["1", "2"])
        for output in (one, other):
            (warning,) = output.alignment.warnings
            assert "1 candidate was drawn instead of 8" in warning
            assert output.alignment.strategy == BestOf(n=8, inner=PLAIN)  # as asked
            assert output.alignment.usage.reward_calls == 1


def several(**given):
    """vLLM's parameters with ``top_k=1``: it refuses n > 1 of greedy ones itself."""
    from vllm import SamplingParams

    return SamplingParams(top_k=1, **given)


@pytest.mark.vllm
def test_answers_that_can_only_be_equal_are_found_once():
    """n of them are asked for, and n come back; what they cost is that of one."""
    with Aligner(One(4), ToyReward(), BestOf(n=8, inner=PLAIN)) as aligner:
        (output,) = aligner.generate("1", several(n=3, max_tokens=6))
        assert [answer.token_ids for answer in output.outputs] == [list(ONLY)] * 3
        assert output.alignment.usage.reward_calls == output.alignment.usage.policy_requests == 1
        assert any("is returned 3 times" in text for text in output.alignment.warnings)
