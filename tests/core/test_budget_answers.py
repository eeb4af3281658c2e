"""What comes back when a budget ends a run: the strategy's own choice among what was drawn."""

import asyncio
import pickle
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rsalign import (
    BestOf,
    Budget,
    Calibrate,
    Cards,
    FixedSize,
    Key,
    Line,
    Message,
    Plain,
    Prompt,
    QAlign,
    RewardError,
    Stop,
    align,
)
from rsalign import selectors as select
from rsalign.chains.beta_rules import TargetKL
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Segment
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.utilities import ExactMatch
from rsalign.strategies.early_stop import EarlyStop
from rsalign.strategies.power import Power
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
PLAIN = Plain(max_tokens=6)
LAST = LastNumber()
VOTE = select.MajorityVote(extract=LAST)
FREE = [  # selectors that need no reward
    VOTE,
    select.MajorityVote(extract=LAST, ties="first"),
    select.ConfidenceWeightedVote(extract=LAST),
    select.SelfCertainty(extract=LAST),
    select.MinimumBayesRisk(utility=ExactMatch()),
    select.Last(),
]
REWARDED = [
    select.Hard(),
    select.Soft(temperature=0.7),
    select.RewardWeightedVote(extract=LAST, temperature=0.5),
    select.MinimumBayesRisk(utility=ExactMatch(), temperature=1.0),
    select.BestOfMajority(extract=LAST, share=0.3),
    select.TopFraction(m=3.0),
    select.StatisticalRejection(beta=0.5),
    select.ChiSquaredPessimism(beta=0.5),
]


def run(strategy, *, reward=None, policy=None, seed=0, **budget):
    return asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=policy or ToyPolicy(5),
            reward=reward,
            budget=Budget(**budget),
            seed=seed,
        )
    )


def finished(trace):
    """The candidates of a pool that were complete, by number."""
    found = []
    for labels, child in sorted(trace.children.items()):
        assert labels[0] == "candidate"
        found += [proposal.candidate for proposal in child.proposals]
    return found


CASES = [
    (kind, selector, reward)
    for reward in (None, ToyReward(3))
    for selector in (*FREE, *(REWARDED if reward else ()))
    for kind in ("best_of", "early_stop")
    if kind == "best_of" or hasattr(selector, "extract")  # the other takes what votes
]


@pytest.mark.parametrize(
    ("kind", "selector", "reward"),
    CASES,
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_the_selector_chooses_among_what_was_drawn(kind, selector, reward):
    num_partial = 0
    for seed in range(12):
        if kind == "best_of":
            strategy, address = BestOf(n=16, inner=PLAIN, select=selector), ("select",)
        else:
            strategy = EarlyStop(n=16, at_least=16, share=1.0, inner=PLAIN, select=selector)
            address = None
        result = run(strategy, reward=reward, seed=seed, policy_tokens=30)
        pool = finished(result.trace)
        assert result.expired
        assert 0 < len(pool) < 16
        key = Key(seed).child(*(address or ("select", len(pool))))
        chosen = pool[asyncio.run(selector.select(PROMPT, pool, key)).index]
        assert result.candidate is chosen
        assert result.candidate.response.complete
        assert result.judged == (reward is not None)
        assert result.reward == (None if reward is None else chosen.reward)
        assert result.trace.notes["rewards"] == tuple(c.reward for c in pool)
        assert result.warnings == ()
        num_partial += len(pool)
    assert num_partial > 36


def test_a_vote_is_no_highest_reward():
    """The seeds at which both differ are many, and the vote is what comes back."""
    differ = 0
    for seed in range(20):
        result = run(
            BestOf(n=16, inner=PLAIN, select=VOTE), reward=ToyReward(), seed=seed, policy_tokens=40
        )
        pool = finished(result.trace)
        votes = Counter(LAST(c.response.text) for c in pool)
        del votes[None]
        answer = LAST(result.candidate.response.text)
        assert votes[answer] == max(votes.values(), default=0)
        differ += result.reward < max(c.reward for c in pool)
    assert differ > 8


def states(trace):
    """Of one chain whose every step cuts: its states so far, the start included."""
    steps = [proposal for proposal in trace.proposals if proposal.address]
    visited = [steps[0].state]
    for proposal in steps:
        taken = proposal.verdict == "accepted"
        visited.append(proposal.candidate if taken else visited[-1])
    return visited


@pytest.mark.parametrize("kind", [QAlign, Quest, Power])
@pytest.mark.parametrize("burn_in", [0, 4])
def test_a_chain_votes_among_the_states_it_visited(kind, burn_in):
    differ = 0
    for seed in range(12):
        chain = kind(steps=200, max_tokens=6, recycle=False, answer=VOTE, burn_in=burn_in)
        result = run(chain, reward=ToyReward(), seed=seed, policy_tokens=60)
        ((_, trace),) = result.trace.children.items()
        visited = states(trace)
        counted = visited[min(burn_in, len(visited) - 1) :]
        votes = Counter(LAST(state.response.text) for state in counted)
        votes.pop(None, None)
        assert result.expired
        assert votes[LAST(result.candidate.response.text)] == max(votes.values(), default=0)
        assert result.trace.notes["num_steps"] == len(visited) - 1 < 200
        differ += result.candidate.reward < max(state.reward for state in visited)
    assert differ > 0


def test_the_last_state_is_the_answer_of_a_chain_that_gives_the_last():
    for seed in range(8):
        result = run(
            QAlign(steps=99, max_tokens=6), reward=ToyReward(), seed=seed, policy_tokens=50
        )
        ((_, trace),) = result.trace.children.items()
        assert result.candidate is states(trace)[-1]


def test_a_chain_that_did_not_burn_in_gives_its_latest_state():
    chain = QAlign(steps=99, burn_in=99, recycle=False, max_tokens=6, answer=select.Last())
    result = run(chain, reward=ToyReward(), policy_tokens=40)
    ((_, trace),) = result.trace.children.items()
    assert result.candidate is states(trace)[-1]


def test_a_pool_that_is_cut_short_is_weighed_like_a_whole_one():
    """Before a chain begins; a rule that cannot find a beta from so few gives way, and says so."""
    for seed in range(6):
        chain = QAlign(pool=16, beta=0.1, max_tokens=6, answer=select.Hard())
        result = run(chain, reward=ToyReward(), seed=seed, policy_tokens=24)
        assert result.expired
        assert result.reward == max(result.trace.notes["rewards"] + (result.reward,))
        assert result.warnings == ()
        rule = QAlign(pool=16, beta=TargetKL(nats=2.0), max_tokens=6, answer=VOTE)
        result = run(rule, reward=ToyReward(), seed=seed, policy_tokens=24)
        assert result.expired
        assert result.candidate.response.complete
        assert "draw a pool of at least 9" in result.warnings[0]


@dataclass(frozen=True)
class Scripted:
    """Candidate i says `says[i]` and ends; it is finished after `delays[i]` turns of the loop."""

    says: tuple
    delays: tuple
    started: list = field(default_factory=list)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        (i,) = [label for label in key.path if isinstance(label, int)]
        self.started.append(i)
        for _ in range(self.delays[i]):
            await asyncio.sleep(0)
        return Segment((self.says[i], 0), (-1.0, -1.0), Stop.EOS)

    def text(self, tokens):
        return " ".join(str(token) for token in tokens if token)


@settings(max_examples=30, deadline=None)
@given(
    says=st.lists(st.integers(1, 4), min_size=9, max_size=9),
    delays=st.permutations(range(9)),
    selector=st.sampled_from([VOTE, select.Last(), select.Hard(), select.TopFraction(m=2.0)]),
    judged=st.booleans(),
)
def test_the_answer_does_not_depend_on_which_draw_was_faster(says, delays, selector, judged):
    """By number, not by completion: also among equal votes and rewards."""

    class Levels:
        async def score(self, prompt, response):
            return float(response.tokens[0] % 3)  # ties

    reward = Levels() if judged or getattr(selector, "needs_reward", True) else None
    strategy = BestOf(n=9, inner=Plain(max_tokens=2), select=selector)
    together, mixed = (
        run(strategy, reward=reward, policy=Scripted(tuple(says), order), policy_tokens=2 * 6)
        for order in ((0,) * 9, tuple(delays))
    )
    assert [c.tokens for c in finished(mixed.trace)] == [(say, 0) for say in says[:6]]
    assert mixed.candidate == together.candidate


@settings(max_examples=20, deadline=None)
@given(
    says=st.lists(st.integers(1, 4), min_size=12, max_size=12),
    delays=st.permutations(range(12)),
)
@example(says=[1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 4, 1], delays=range(12))  # 2 comes before 10
def test_nor_does_that_of_a_strategy_of_ones_own(says, delays):
    """It does not say how it chooses: highest reward, then first by address."""

    @dataclass(frozen=True)
    class Own:
        async def sample(self, prompt, run):
            drafts = [run.at("i", i).draft(prompt, (), max_tokens=2) for i in range(12)]
            return max(await concurrently(drafts), key=lambda draft: draft.reward)

    class Levels:
        async def score(self, prompt, response):
            return float(response.tokens[0] // 3)

    policy = Scripted(tuple(says), tuple(delays))
    result = run(Own(), reward=Levels(), policy=policy, policy_tokens=2 * 11)
    best = max(range(11), key=lambda i: says[i] // 3)
    assert result.candidate.tokens == (says[best], 0)
    assert result.candidate.response.address == ("i", best)


def test_inner_runs_that_are_not_finished_say_what_they_have():
    """Three chains, none of which is finished: the vote is among what each would answer now."""
    chains = BestOf(
        n=3, inner=QAlign(steps=500, max_tokens=6, answer=select.Hard()), select=select.Hard()
    )
    result = run(chains, reward=ToyReward(), policy_tokens=120)
    rewards = [
        proposal.candidate.reward
        for trace in result.trace.walk()
        for proposal in trace.proposals
        if proposal.address
    ]
    assert result.expired
    assert len(result.trace.notes["rewards"]) == 3
    assert result.reward == max(rewards)
    nested = BestOf(n=2, inner=BestOf(n=4, inner=PLAIN, select=VOTE), select=VOTE)
    result = run(nested, policy_tokens=22)
    assert result.candidate.response.complete
    assert len(result.trace.notes["answers"]) == 2


def test_an_inner_run_that_is_finished_is_not_asked_again():
    """What it chose is on record once."""
    nested = BestOf(n=4, inner=BestOf(n=2, inner=PLAIN, select=VOTE), select=VOTE)
    num_finished = 0
    for tokens in range(8, 40, 4):
        result = run(nested, policy_tokens=tokens)
        for child in result.trace.children.values():
            if child.committed:
                num_finished += result.expired
                assert len(child.proposals) == 2
    assert num_finished


def test_segments_inside_a_vote():
    """Those that are finished are elected from; what was rejected on the way is not."""
    cards = Cards(
        segmenter=FixedSize(2),
        threshold=Line(target=1.0),
        acceptance=SoftAcceptance(beta=0.5),
        max_tokens=6,
        max_tries=3,
    )
    seen = 0
    for seed in range(10):
        strategy = BestOf(n=6, inner=cards, select=VOTE)
        result = run(strategy, reward=ToyReward(), seed=seed, policy_tokens=60)
        done = [
            child.committed
            for _, child in sorted(result.trace.children.items())
            if child.proposals
            and any(
                p.candidate.tokens == child.committed and p.candidate.response.complete
                for p in child.proposals
            )
        ]
        if done:
            seen += 1
            assert result.candidate.tokens in done
            assert len(result.trace.notes["answers"]) == len(done)
    assert seen > 5


def test_a_committed_beginning_is_completed_by_the_best_that_continues_it():
    """Not lost because an answer that contradicts it had a higher reward."""

    @dataclass(frozen=True)
    class Own:
        async def sample(self, prompt, run):
            for i in (1, 2):
                await run.judge(prompt, (i, 0), Stop.EOS)
            run.trace.commit((2,))
            await run.at("more").draft(prompt, (2,), max_tokens=99)
            raise AssertionError("the budget ends it")

    class First:
        async def score(self, prompt, response):
            return float(-response.tokens[0])

    result = run(Own(), reward=First(), policy=ToyPolicy(60), policy_tokens=3)
    assert result.candidate.tokens == (2, 0)
    assert result.reward == -2.0


def test_an_estimate_that_contradicts_what_was_streamed_is_not_taken():
    @dataclass(frozen=True)
    class Own:
        async def sample(self, prompt, run):
            wrong = await run.judge(prompt, (3, 0), Stop.EOS)

            async def answer():
                return wrong

            run.trace.answer_by(answer)
            run.trace.commit((1,))
            await run.draft(prompt, (1,), max_tokens=99)

    result = run(Own(), reward=ToyReward(), policy=ToyPolicy(60), policy_tokens=3)
    assert result.candidate.tokens[:1] == (1,)


class Judge:
    asked = 0

    async def prefer(self, prompt, one, other):
        type(self).asked += 1
        await asyncio.sleep(0)
        return 0.5


def test_no_judge_is_asked_once_the_budget_is_spent():
    knockout = BestOf(n=16, inner=PLAIN, select=select.Knockout(judge=Judge()))
    result = run(knockout, policy_tokens=30)
    assert Judge.asked == 0
    assert result.expired
    assert result.candidate == finished(result.trace)[0]
    assert result.candidate.response.address == ("candidate", 0)
    assert "no judge is asked" in result.warnings[0]
    judged = run(knockout, reward=ToyReward(), policy_tokens=30)
    assert judged.candidate.reward == max(c.reward for c in finished(judged.trace))


def test_a_selector_of_ones_own_that_waits_for_others_is_cut_off():
    waits = []

    @dataclass(frozen=True)
    class Waits:
        async def select(self, prompt, candidates, key):
            waits.append(len(candidates))
            await asyncio.sleep(3600)

    result = run(BestOf(n=16, inner=PLAIN, select=Waits()), reward=ToyReward(), policy_tokens=30)
    assert len(waits) == 1
    assert result.reward == max(c.reward for c in finished(result.trace))
    assert "would have to wait for a judge" in result.warnings[0]


def test_what_cannot_be_chosen_from_gives_way():
    class Silent(ToyPolicy):
        async def extend(self, prefix, **how):
            drawn = await super().extend(prefix, **how)
            return Segment(drawn.tokens, None, drawn.stop)

    vote = BestOf(n=16, inner=PLAIN, select=select.ConfidenceWeightedVote(extract=LAST))
    result = run(vote, policy=Silent(5), policy_tokens=30)
    assert result.candidate == finished(result.trace)[0]
    assert result.candidate.response.address == ("candidate", 0)
    assert "no log-probabilities" in result.warnings[0]


def test_rejection_tests_what_was_drawn_and_forces_one():
    """As after `max_draws`: a rejected one, and flagged."""
    for seed in range(8):
        strategy = Rejection(beta=0.3, bound=9.0, max_tokens=6, at_once=8)
        result = run(strategy, reward=ToyReward(), seed=seed, policy_tokens=40)
        assert result.expired
        assert result.trace.forced
        assert result.candidate.response.complete
        sure = Rejection(beta=0.3, bound=-9.0, max_tokens=6, at_once=8)
        held = run(sure, reward=Pending(), seed=seed, reward_calls=3)
        assert held.trace.proposals[-1].verdict == "accepted"
        assert held.candidate is held.trace.proposals[-1].candidate


def test_rejection_accepts_what_an_earlier_draw_kept_waiting():
    """Draws are tested in order; when the first never ends, the second is the first accepted.

    That holds although the later ones are finished before it.
    """

    class FirstHangs(ToyPolicy):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            index = key.path[1]
            if index == 0:
                await asyncio.Event().wait()
            for _ in range(4 * (4 - index)):
                await asyncio.sleep(0)
            return await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
            )

    strategy = Rejection(beta=0.3, bound=-9.0, max_tokens=6, at_once=4)
    for seed in range(4):
        result = run(strategy, reward=ToyReward(), policy=FirstHangs(5), seed=seed, seconds=0.1)
        assert result.expired
        assert not result.trace.forced
        assert result.candidate.response.address == ("try", 1)


class SomeHang(ToyPolicy):
    """Some attempts never end, and later ones end before earlier ones."""

    hanging = (0,)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        index = key.path[key.path.index("try") + 1] if "try" in key.path else 0
        if index in self.hanging:
            await asyncio.Event().wait()
        for _ in range(4 * (8 - index)):
            await asyncio.sleep(0)
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


def whole_cards(level, **how):
    """Its one segment is the whole answer, accepted if its reward is at least so high."""
    return Cards(
        segmenter=FixedSize(6),
        threshold=Constant(value=level),
        acceptance=HardAcceptance(),
        max_tokens=6,
        proposals=8,
        **how,
    )


@pytest.mark.parametrize("when", ["best", "last", "fail"])
def test_cards_accepts_what_an_earlier_draft_kept_waiting(when):
    """Not the best of those that wait: the first of them, by number, that is accepted."""
    num_others = 0
    for seed in range(3):
        cards = whole_cards(0.0, when_exhausted=when)
        result = run(cards, reward=ToyReward(), policy=SomeHang(5), seed=seed, seconds=0.3)
        (*rejected, accepted) = result.trace.proposals
        assert result.expired
        assert result.judged
        assert [p.verdict for p in rejected] == ["rejected"] * len(rejected)
        assert accepted.verdict == "accepted"
        assert result.candidate is accepted.candidate
        assert accepted.address[-2:] == ("try", len(rejected) + 1)
        # what was not tested because one had been accepted is no answer, whatever its reward
        num_others += len(rejected) < 6
    assert num_others


@pytest.mark.parametrize("when", ["best", "last", "fail"])
def test_the_best_rejected_draft_of_cards_is_the_answer_if_none_is_accepted(when):
    for seed in range(4):
        cards = whole_cards(99.0, when_exhausted=when)
        result = run(cards, reward=ToyReward(), policy=SomeHang(5), seed=seed, seconds=0.3)
        assert result.expired
        assert [p.verdict for p in result.trace.proposals] == ["rejected"] * 7
        assert result.reward == max(p.candidate.reward for p in result.trace.proposals)


def test_only_accepted_answers_of_cards_are_voted_on():
    """A run of Cards whose accepted draft waits for an earlier one has a vote; another has none."""

    class OneAccepts(ToyReward):
        async def score(self, prompt, response):
            return 1.0 if response.address[:2] == ("candidate", 1) else 0.0

    vote = BestOf(n=3, inner=whole_cards(0.5), select=VOTE)
    result = run(vote, reward=OneAccepts(), policy=SomeHang(5), seconds=0.5)
    assert result.expired
    assert len(result.trace.notes["answers"]) == 1
    assert result.candidate.response.address[:2] == ("candidate", 1)


def test_an_open_segment_is_no_answer_although_it_was_accepted():
    cards = Cards(
        segmenter=FixedSize(1),
        threshold=Constant(value=-9.0),
        acceptance=HardAcceptance(),
        max_tokens=6,
        proposals=8,
    )
    result = run(cards, reward=ToyReward(), policy=SomeHang(60), seconds=0.3)
    assert result.expired
    assert result.trace.proposals[-1].verdict == "accepted"
    assert not result.trace.proposals[-1].candidate.response.complete
    assert result.trace.committed == ()
    assert not result.judged
    assert not result.candidate.response.complete


def test_the_best_draw_of_calibrate_is_the_answer_until_it_has_a_target():
    for seed in range(8):
        calibrate = Calibrate(inner=whole_cards(0.0), draws=8)
        calibrate = replace(calibrate, inner=replace(calibrate.inner, threshold=None))
        asked = []

        class Remembers(ToyReward):
            async def score(self, prompt, response):
                asked.append(Candidate(response, await super().score(prompt, response)))  # noqa: B023
                return asked[-1].reward  # noqa: B023

        result = run(calibrate, reward=Remembers(), seed=seed, reward_calls=5)
        assert result.expired
        assert len(asked) == 5
        assert result.reward == max(candidate.reward for candidate in asked)


@dataclass(frozen=True)
class Pending(ToyReward):
    """The first answers take longest."""

    async def score(self, prompt, response):
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().score(prompt, response)


def test_answers_that_are_being_judged_when_tokens_run_out_are_judged():
    """Their reward has been asked for, and their tokens are spent."""
    result = run(BestOf(n=16, inner=Plain(max_tokens=4)), reward=Pending(), policy_tokens=20)
    pool = finished(result.trace)
    assert result.usage.reward_calls == len(pool)
    assert sum(len(c.tokens) for c in pool) > 12
    assert result.reward == max(c.reward for c in pool)


def test_a_finished_answer_that_could_not_be_judged_is_whole():
    """One call is spent on the prompt; what was drawn then is an answer all the same."""
    cards = Cards(segmenter=FixedSize(40), threshold=Line(target=1.0), max_tokens=6)
    result = run(cards, reward=ToyReward(), reward_calls=1)
    assert result.expired
    assert not result.judged
    assert result.candidate.response.stop in (Stop.EOS, Stop.LENGTH)
    assert result.candidate.response.text


@pytest.mark.parametrize(
    "strategy",
    [
        PLAIN,
        BestOf(n=8, inner=PLAIN, select=VOTE),
        EarlyStop(select=VOTE, inner=PLAIN),
        QAlign(steps=8, max_tokens=6, answer=VOTE, chains=2, pool=4),
        Rejection(beta=0.5, bound=2.0, max_tokens=6),
        Calibrate(
            inner=Cards(segmenter=FixedSize(2), max_tokens=6, acceptance=SoftAcceptance(beta=0.5)),
            draws=4,
        ),
    ],
    ids=lambda one: type(one).__name__,
)
def test_results_keep_nothing_of_the_run(strategy):
    """Whether it was ended early or not; a process may send them to another."""
    for limit in (12, 10_000):
        result = run(strategy, reward=ToyReward(), policy_tokens=limit)
        assert result.usage.policy_tokens_drawn <= limit
        assert all(trace.estimate is None for trace in result.trace.walk())
        assert pickle.loads(pickle.dumps(result)).candidate == result.candidate


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 60), seed=st.integers(0, 10**6), judged=st.booleans())
def test_a_finished_answer_is_never_lost(limit, seed, judged):
    strategies = [
        BestOf(n=8, inner=Plain(max_tokens=4), select=VOTE),
        Power(steps=20, max_tokens=4),
        EarlyStop(select=VOTE, inner=Plain(max_tokens=4)),
    ]
    for strategy in strategies:
        reward = ToyReward() if judged else None
        result = run(strategy, reward=reward, seed=seed, policy_tokens=limit)
        complete = [
            p.candidate
            for trace in result.trace.walk()
            for p in trace.proposals
            if p.candidate.response.complete
        ]
        assert result.candidate.response.complete or not complete
        assert result.candidate.tokens
        assert result.usage.policy_tokens_drawn <= limit


def test_a_reward_that_fails_is_like_a_budget():
    @dataclass(frozen=True)
    class Fails(ToyReward):
        asked: list = field(default_factory=list)

        async def score(self, prompt, response):
            self.asked.append(response)
            if len(self.asked) == 7:
                raise RewardError("out of order")
            return await super().score(prompt, response)

    result = asyncio.run(
        align(
            PROMPT,
            BestOf(n=12, inner=PLAIN, select=VOTE),
            policy=ToyPolicy(5),
            reward=Fails(),
            on_reward_error="best",
        )
    )
    pool = finished(result.trace)
    votes = Counter(LAST(c.response.text) for c in pool)
    votes.pop(None, None)
    assert result.expired
    assert result.trace.notes["reward_failed"]
    assert len(pool) >= 6
    assert votes[LAST(result.candidate.response.text)] == max(votes.values(), default=0)


def test_selectors_that_ask_say_so():
    assert [
        name for name, one in select.SELECTORS.items() if getattr(one, "asks_judge", False)
    ] == ["knockout"]


class JudgesFirst:
    """A reward that answers for the first draws only; for the others it never does."""

    def __init__(self, most):
        self.most = most

    async def score(self, prompt, response):
        if response.address[1] >= self.most:
            await asyncio.sleep(3600)
        return 5.0 + float(response.address[1])


@pytest.mark.parametrize("kind", ["best_of", "early_stop"])
def test_a_vote_that_needs_no_reward_counts_the_unjudged(kind):
    """It is among all 16 answers that were drawn, not among the 3 that were judged."""
    differs = 0
    for seed in range(12):
        strategy = BestOf(n=16, inner=PLAIN, select=VOTE)
        if kind == "early_stop":
            strategy = EarlyStop(n=16, at_least=16, inner=PLAIN, select=VOTE)
        held = run(strategy, reward=JudgesFirst(3), seed=seed, reward_calls=3)
        free = run(strategy, seed=seed)
        assert held.expired
        assert held.candidate.tokens == free.candidate.tokens
        assert held.trace.notes["num_unjudged"] == 13
        assert held.trace.notes["vote_shares"] == free.trace.notes["vote_shares"]
        assert "13 of 16 finished answers had a reward" in held.warnings[0]
        # the reward of an unjudged answer is unknown, and is not said to be 0
        judged = held.candidate.response.address[1] < 3
        assert held.judged is judged
        assert (held.reward is None) is not judged
        differs += not judged
    assert differs


def test_a_selector_that_needs_rewards_sees_only_the_judged():
    for seed in range(6):
        strategy = BestOf(n=8, inner=PLAIN, select=select.Hard())
        held = run(strategy, reward=JudgesFirst(3), seed=seed, reward_calls=3)
        assert held.candidate.response.address == ("candidate", 2)
        assert held.reward == 7.0
        assert "num_unjudged" not in held.trace.notes
