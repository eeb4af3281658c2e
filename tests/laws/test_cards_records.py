"""What Cards records, streams, spends and refuses."""

import asyncio
import math

import pytest
from cards_law import PROMPT, line, soft

from rsalign import Budget, ConfigError, FixedSize, Key, Run, Stop, Trace, Verdict, align
from rsalign.core.errors import RsalignError
from rsalign.segments import Entropy
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant, Line
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards, TriesExhaustedError
from rsalign.testing import EOS, ToyPolicy, ToyReward
from rsalign.words.build import build_strategy
from rsalign.words.read import split


class Counting(ToyPolicy):
    """Tells how many drafts were drawn."""

    calls = 0

    async def extend(self, prefix, **settings):
        Counting.calls += 1
        return await ToyPolicy.extend(self, prefix, **settings)


class CountingReward(ToyReward):
    """Remembers what it was asked."""

    asked = ()

    async def score(self, prompt, response):
        CountingReward.asked += (response.tokens,)
        return await ToyReward.score(self, prompt, response)


def cards(**settings):
    defaults = {
        "segmenter": FixedSize(3),
        "threshold": Line(target=1.6),
        "acceptance": SoftAcceptance(beta=0.4),
        "max_tokens": 20,
        "max_tries": 5,
    }
    return Cards(**defaults | settings)


def sample(strategy, *, seed=0, vocab=12, policy=ToyPolicy):
    pieces = []
    run = Run(policy(vocab), ToyReward(), Key(seed), Trace(on_commit=pieces.append))
    return asyncio.run(strategy.sample(PROMPT, run)), run.trace, pieces


@pytest.mark.parametrize("proposals", [1, 2, 4, 9, "auto"])
@pytest.mark.parametrize("seed", range(8))
def test_the_record(proposals, seed):
    Counting.calls = 0
    answer, trace, pieces = sample(cards(proposals=proposals), seed=seed, policy=Counting)
    notes, records = trace.notes, trace.proposals
    tested = [p for p in records if p.verdict is not Verdict.FORCED]
    taken = [p for p in records if p.verdict is not Verdict.REJECTED]
    assert notes["num_proposals"] == len(tested)
    assert notes["num_segments"] == len(taken) == len(pieces)
    assert notes["num_forced"] == sum(p.verdict is Verdict.FORCED for p in records)
    accepted = sum(p.verdict is Verdict.ACCEPTED for p in records)
    assert notes["acceptance_rate"] == accepted / len(tested)
    assert notes["mean_segment_length"] == len(answer.tokens) / len(pieces)
    assert notes["unused_drafts"] == Counting.calls - len(tested)
    if proposals == 1:
        assert notes["unused_drafts"] == 0
    kept = 0
    for proposal, piece in zip(taken, pieces, strict=True):
        assert proposal.kept == kept
        assert proposal.candidate.tokens[kept:] == piece
        kept += len(piece)
    assert kept == len(answer.tokens) <= 20
    assert EOS not in answer.tokens[:-1]
    bar, accept = line(ToyReward().value, 1.6, 0.5, 20), soft(0.4)
    for p in records:
        chance = accept(p.candidate.reward, bar(len(p.candidate.tokens)))
        assert math.exp(p.log_accept) == pytest.approx(chance)


def test_a_forced_draft_is_the_best_or_the_last_of_the_rejected():
    for exhausted in ("best", "last"):
        strategy = cards(
            acceptance=HardAcceptance(), threshold=Constant(value=3), when_exhausted=exhausted
        )
        _, trace, _ = sample(strategy)
        rejected = []
        for proposal in trace.proposals:
            if proposal.verdict is Verdict.REJECTED:
                rejected.append(proposal.candidate)
                continue
            assert len(rejected) == 5
            last = exhausted == "last"
            assert proposal.candidate == (
                rejected[-1] if last else max(rejected, key=lambda draft: draft.reward)
            )
            rejected = []


def test_exhausted_tries_can_be_an_error():
    with pytest.raises(TriesExhaustedError, match=r"all 5 drafts .* lower the target") as failed:
        sample(
            cards(threshold=Constant(value=3), acceptance=HardAcceptance(), when_exhausted="fail")
        )
    assert isinstance(failed.value, RsalignError)
    assert failed.value.prompt == PROMPT
    assert failed.value.kept.tokens == ()
    assert len(failed.value.rejected) == 5


def test_the_answer_has_all_its_log_probs():
    for seed in range(5):
        answer, _, _ = sample(cards(), seed=seed)
        known = asyncio.run(ToyPolicy(12).log_probs(PROMPT.tokens, answer.tokens))
        assert answer.response.log_probs == pytest.approx(known)


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 7])
def test_the_last_segment_is_capped(max_tokens):
    answer, trace, _ = sample(cards(max_tokens=max_tokens), vocab=200)
    assert len(answer.tokens) == max_tokens
    assert answer.response.stop is Stop.LENGTH
    assert max(len(p.candidate.tokens) for p in trace.proposals) <= max_tokens


@pytest.mark.parametrize(
    ("threshold", "asked"),
    [
        (Line(target=1.0), 1),
        (Line(target=1.0, prompt_weight=0), 0),
        (Constant(value=1.0), 0),
    ],
)
def test_the_prompt_is_judged_only_if_the_threshold_needs_it(threshold, asked):
    CountingReward.asked = ()
    run = Run(ToyPolicy(5), CountingReward(), Key(1))
    asyncio.run(cards(threshold=threshold).sample(PROMPT, run))
    assert CountingReward.asked.count(()) == asked


class Endless(ToyPolicy):
    """No answer is complete before the budget ends."""

    def probs(self, prefix):
        return (1e-30, *ToyPolicy.probs(self, prefix)[1:])


@pytest.mark.parametrize("proposals", [1, 3, "auto"])
@pytest.mark.parametrize(
    "budget", [Budget(policy_tokens=30), Budget(policy_tokens=31), Budget(reward_calls=9)]
)
def test_a_budget_ends_it_with_the_accepted_prefix(budget, proposals):
    strategy = cards(proposals=proposals, max_tokens=200)
    pieces = []
    result = asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=Endless(9),
            reward=ToyReward(),
            budget=budget,
            on_commit=pieces.append,
        )
    )
    assert result.expired
    assert result.candidate.tokens == result.trace.committed == sum(pieces, ())
    assert result.trace.notes["num_segments"] == len(pieces) > 0
    free = asyncio.run(align(PROMPT, strategy, policy=Endless(9), reward=ToyReward()))
    assert free.candidate.tokens[: len(result.candidate.tokens)] == result.candidate.tokens
    for name, limit in (("policy_tokens", "policy_tokens_drawn"), ("reward_calls",) * 2):
        if (most := getattr(budget, name)) is not None:
            assert getattr(result.usage, limit) <= most


def test_the_line():
    value = {(): -1.4}.__getitem__
    for weight in (0, 0.3, 1):
        bar = line(value, 2.0, weight, 8)
        rule = Line(target=2.0, prompt_weight=weight)
        for n in range(1, 9):
            assert rule.at(n, prompt_reward=-1.4, max_tokens=8) == pytest.approx(bar(n))
        assert rule.at(8, prompt_reward=-1.4, max_tokens=8) == pytest.approx(2.0)
        assert rule.at(3, prompt_reward=7.0, max_tokens=8) == 2.0  # it never falls
    assert rule.with_target(5.0) == Line(target=5.0, prompt_weight=1)


def test_soft_and_hard_meet():
    for reward, bar in [(1.0, 1.0), (2.0, 1.0), (1e308, -1e308)]:
        assert (
            SoftAcceptance(beta=1e-9).log_accept(reward, bar)
            == HardAcceptance().log_accept(reward, bar)
            == 0
        )
    assert (
        SoftAcceptance(beta=1e-300).log_accept(0.0, 1e300)
        == HardAcceptance().log_accept(0.0, 1e300)
        == -math.inf
    )


def test_the_published_settings():
    strategy = Cards.paper(segmenter=FixedSize(16), alpha=0.75)
    assert strategy.threshold == Line(target=8.5, prompt_weight=0.25)
    assert strategy.acceptance == SoftAcceptance(beta=0.7)
    assert (strategy.max_tokens, strategy.max_tries, strategy.proposals) == (128, 20, 1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: cards(segmenter=FixedSize), "give a segmenter"),
        (lambda: cards(threshold=1.5), "give a threshold"),
        (lambda: cards(acceptance="soft"), "give an acceptance rule"),
        (lambda: cards(max_tokens=0), "max_tokens=0"),
        (lambda: cards(max_tries=0), "max_tries=0"),
        (lambda: cards(max_tries=True), "max_tries=True"),
        (lambda: cards(proposals=0), "'auto'"),
        (lambda: cards(proposals="all"), "'auto'"),
        (lambda: cards(when_exhausted="first"), "'best', 'last', 'finish' or 'fail'"),
        (lambda: cards(hopeless_below=1.5), "between 0 and 1"),
        (lambda: SoftAcceptance(beta=0), "above 0"),
        (lambda: Line(target=math.inf), "finite"),
        (lambda: Line(target=1, prompt_weight=1.1), "between 0 and 1"),
        (lambda: Constant(value="high"), "'high'"),
        (lambda: sample(cards(threshold=None)), "no threshold.*Calibrate"),
    ],
)
def test_refusals(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("name", "settings", "strategy"),
    [
        (
            "cards",
            "segmenter=fixed_size segmenter.n=4 threshold=line threshold.target=1 acceptance=soft "
            "acceptance.beta=0.3 proposals=auto",
            Cards(
                segmenter=FixedSize(4),
                threshold=Line(target=1),
                acceptance=SoftAcceptance(beta=0.3),
                proposals="auto",
            ),
        ),
        (
            "cards",
            "segmenter.n=4 threshold.target=1 threshold.prompt_weight=0 acceptance=hard",
            Cards(
                segmenter=FixedSize(4),
                threshold=Line(target=1, prompt_weight=0),
                acceptance=HardAcceptance(),
            ),
        ),
        (  # a segmenter's threshold is a number
            "cards",
            "segmenter=entropy segmenter.threshold=2.5 threshold.target=1",
            Cards(segmenter=Entropy(2.5), threshold=Line(target=1)),
        ),
        (
            "calibrate",
            "draws=4 inner=cards inner.segmenter.n=2 inner.threshold=constant "
            "inner.threshold.value=0",
            Calibrate(draws=4, inner=Cards(segmenter=FixedSize(2), threshold=Constant(value=0))),
        ),
    ],
)
def test_by_name(name, settings, strategy):
    assert build_strategy(name, dict(split(settings.split(), "--set"))) == strategy


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("segmenter.n=4 threshold=lines", "did you mean 'line'"),
        ("segmenter.n=4 threshold=2", "threshold=2: name the threshold"),
        ("segmenter.n=4 acceptance.bta=2", "did you mean 'beta'"),
        ("threshold.target=2", "segmenter"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(ConfigError, match=says):
        build_strategy("cards", dict(split(settings.split(), "--set")))


@pytest.mark.parametrize(
    ("room", "sizes"),
    [
        (math.inf, [1, 2, 4, 8, 8, 8]),
        (100.0, [1, 6, 8, 8]),
        (3.5, [1, 2, 4, 6, 8, 8]),
        (1.0, [1, 1, 2, 3, 4, 5]),
        (0.0, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_auto_opens_more_in_each_fruitless_round_and_more_the_less_they_add_to_a_step(room, sizes):
    """Nothing is ever accepted, so that each round is as large as it may be."""
    rounds, opened = [], 0

    class Roomy(ToyPolicy):
        headroom = room

        async def extend(self, prefix, **settings):
            nonlocal opened
            opened += 1
            drawn = await ToyPolicy.extend(self, prefix, **settings)
            if opened:  # all drafts of a round are open before the first of them is drawn
                rounds.append(opened)
                opened = 0
            return drawn

    strategy = cards(
        proposals="auto",
        acceptance=HardAcceptance(),
        threshold=Constant(value=99.0),
        max_tokens=3,
        max_tries=sum(sizes),
        when_exhausted="last",
    )
    sample(strategy, policy=Roomy)
    assert rounds == sizes


def test_auto_opens_as_many_as_one_acceptance_is_expected_to_take():
    """(tested + 1) / (accepted + 1), rounded up: 2/2, 3/2, then 5/2."""
    accepted = iter([True, False, False, False, True])
    rounds, opened = [], 0

    class Scripted:
        def log_accept(self, reward, threshold):
            return 0.0 if next(accepted, True) else -math.inf

    class Counted(ToyPolicy):
        async def extend(self, prefix, **settings):
            nonlocal opened
            opened += 1
            drawn = await ToyPolicy.extend(self, prefix, **settings)
            if opened:
                rounds.append(opened)
                opened = 0
            return drawn

    sample(cards(proposals="auto", acceptance=Scripted(), max_tries=20), policy=Counted)
    assert rounds[:4] == [1, 1, 2, 3]
