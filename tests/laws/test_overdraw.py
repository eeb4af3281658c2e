"""What was drawn past a boundary begins the next segment, and the law is that of fresh draws."""

import asyncio
from dataclasses import dataclass, fields, replace

import pytest
from cards_law import PROMPT

from rsalign import Budget, Cards, Entropy, FixedSize, Punctuation, Run, Sampling, Stop, align
from rsalign.core.journal import Journal
from rsalign.core.overdraw import RemainingBoundary, find_segment_end, needs_entropy
from rsalign.core.types import Response, Segment
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Line
from rsalign.testing import EOS, ToyPolicy, ToyReward, check_strategy, distance, law, law_of

MARKS = [  # where a segment ends
    Punctuation("1", min_entropy=0, min_tokens=1, max_tokens=3),
    Punctuation("1", min_entropy=0, min_tokens=2, max_tokens=3),
    Punctuation("12", min_entropy=0, min_tokens=1, max_tokens=2),
]
SHORT = MARKS[2]


@dataclass(frozen=True)
class Overdrawing(ToyPolicy):
    """Cannot stop at a token: it draws as many as a segment may have, and cuts."""

    stops: tuple = ()

    @property
    def sampling(self):
        return Sampling(stop=self.stops)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        size = FixedSize(boundary.max_tokens) if boundary else None
        drawn = await ToyPolicy.extend(
            self, prefix, max_new_tokens=max_new_tokens, key=key, boundary=size
        )
        drawn = self.stopped(drawn)
        length = find_segment_end(drawn.tokens, boundary, self.text) if boundary else None
        return drawn if length is None else drawn.cut(length)

    def stopped(self, drawn):
        for length in range(1, len(drawn.tokens) + 1):
            if stop := self.sampling.first_stop(self.text(drawn.tokens[:length])):
                return drawn.upto(length, Stop.STOP, stop)
        return drawn


@dataclass(frozen=True)
class Exact(Overdrawing):
    """Stops where the rule says."""

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        drawn = await ToyPolicy.extend(
            self, prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        return self.stopped(drawn)


def cards(segmenter, **how):
    return Cards(
        segmenter=segmenter,
        threshold=Line(target=0.6),
        acceptance=SoftAcceptance(beta=0.7),
        **{"max_tokens": 2, "max_tries": 2} | how,
    )


def whole_answers(strategy, policy, reward):
    async def answer(key):
        run = Run(policy, reward, key)
        response = (await strategy.sample(PROMPT, run)).response
        lengths = tuple(len(proposal.candidate.tokens) for proposal in run.trace.proposals)
        return response.tokens, response.text, response.stop, response.stop_reason, lengths

    return law(answer)


CASES = (
    [(segmenter, {"max_tokens": 4, "max_tries": 1}) for segmenter in MARKS]
    + [(SHORT, how) for how in ({"when_exhausted": "last"}, {"proposals": 2})]
    + [
        pytest.param(SHORT, how, marks=pytest.mark.nightly)
        for how in ({"max_tokens": 3}, {"max_tries": 3}, {"max_tokens": 5, "max_tries": 1})
    ]
)


@pytest.mark.parametrize(("segmenter", "how"), CASES, ids=str)
def test_the_law_is_that_of_fresh_draws(segmenter, how):
    """Of the answer and of all that was considered on the way."""
    reward, strategy = ToyReward(1), cards(segmenter, **how)
    right = whole_answers(strategy, Exact(3, 1), reward)
    assert distance(whole_answers(strategy, Overdrawing(3, 1), reward), right) < 1e-12


@pytest.mark.parametrize("segmenter", MARKS, ids=str)
def test_stop_strings(segmenter):
    stops, strategy = ("1 1", "2 1 2"), cards(segmenter, max_tries=1, max_tokens=4)
    for salt in range(3):
        reward = ToyReward(salt)
        right = whole_answers(strategy, Exact(3, salt, stops=stops), reward)
        drawn = whole_answers(strategy, Overdrawing(3, salt, stops=stops), reward)
        assert distance(drawn, right) < 1e-12
        assert {stop for _, _, stop, _, _ in right} == {Stop.EOS, Stop.STOP, Stop.LENGTH}


@dataclass(frozen=True, kw_only=True)
class Loop(Cards):
    """The method once more, for mistakes to be planted in."""

    async def sample(self, prompt, run):
        start = (await run.judge(prompt, (), None)).reward
        kept, rejected = Response((), "", None), []
        while not kept.complete:
            here = run.at("segment", len(kept.tokens))
            ahead = [self.ahead(kept, i, rejected) for i in range(self.max_tries)]
            rejected = []
            for i in range(self.max_tries):
                draft = await here.at("try", i).draft(
                    prompt,
                    kept.tokens,
                    max_tokens=self.max_tokens,
                    boundary=self.segmenter,
                    ahead=ahead[i],
                )
                bar = self.threshold.at(
                    len(draft.tokens), prompt_reward=start, max_tokens=self.max_tokens
                )
                log_accept = self.acceptance.log_accept(self.reward(draft), bar)
                if here.at("try", i).decide(draft, kept=len(kept.tokens), log_accept=log_accept):
                    break
                rejected.append(draft)
            else:
                draft = max(rejected, key=self.reward)
            kept = draft.response
        return draft

    def ahead(self, kept, i, rejected):
        return None if i else kept.beyond

    def reward(self, draft):
        return draft.reward


class ForEveryTry(Loop):
    def ahead(self, kept, i, rejected):
        return kept.beyond


class OfARejectedDraft(Loop):
    def ahead(self, kept, i, rejected):
        same = [draft for draft in rejected if len(draft.tokens) == len(kept.tokens)]
        return same[0].response.beyond if same and not i else None


class LooksAhead(Loop):
    """Decides by what was drawn beyond, and then keeps that."""

    def reward(self, draft):
        beyond = draft.response.beyond
        tokens = draft.tokens + (beyond.tokens if beyond else ())
        return ToyReward(7).value(tokens)


def test_planted_mistakes_are_caught():
    strategy = cards(SHORT)
    settings = {each.name: getattr(strategy, each.name) for each in fields(strategy)}
    right = [law_of(strategy, Exact(3, salt), ToyReward(salt), PROMPT) for salt in range(2)]

    def differences(kind):
        for salt in range(2):
            drawn = law_of(kind(**settings), Overdrawing(3, salt), ToyReward(salt), PROMPT)
            yield distance(drawn, right[salt])

    assert max(differences(Loop)) < 1e-12
    for kind in (ForEveryTry, OfARejectedDraft, LooksAhead):
        assert any(difference > 1e-3 for difference in differences(kind)), kind


def spent(policy, strategy, **how):
    async def main():
        results = [
            await align(PROMPT, strategy, policy=policy, reward=ToyReward(), seed=seed, **how)
            for seed in range(40)
        ]
        return results, sum(result.usage.policy_tokens_drawn for result in results)

    return asyncio.run(main())


def test_every_token_counts_once():
    """When it is drawn; with one try for each segment, all are in the answer."""
    strategy = cards(MARKS[0], max_tokens=30, max_tries=1)
    results, drawn = spent(Overdrawing(9), strategy)
    assert drawn == sum(result.usage.policy_tokens_kept for result in results)
    for result in results:
        segments = result.trace.notes["num_segments"]
        assert result.usage.policy_requests <= segments
    assert sum(r.usage.policy_requests for r in results) < sum(
        r.trace.notes["num_segments"] for r in results
    )


def test_a_budget_holds():
    """Tokens beyond a boundary are within it, and what it cut short is not gone on with."""
    strategy = cards(MARKS[0], max_tokens=30, max_tries=3)
    for limit in (1, 2, 5, 11, 30):
        results, _ = spent(Overdrawing(9), strategy, budget=Budget(policy_tokens=limit))
        assert all(result.usage.policy_tokens_drawn <= limit for result in results)
        assert any(result.expired for result in results)
        for result in results:
            response = result.candidate.response
            assert result.expired or response.stop is Stop.EOS or len(response.tokens) == 30


@pytest.mark.parametrize("says", [False, None])
def test_a_large_budget_changes_nothing(says):
    """What was drawn past a rule's end, but within a segment's greatest size, is gone on with."""

    class Says(Overdrawing):
        overdraws = says

    strategy = cards(MARKS[0], max_tokens=30, max_tries=3)
    free, _ = spent(Says(9), strategy)
    bound, _ = spent(Says(9), strategy, budget=Budget(policy_tokens=10**6))
    assert [r.candidate for r in bound] == [r.candidate for r in free]
    assert [r.trace.proposals for r in bound] == [r.trace.proposals for r in free]


def test_it_is_on_record(tmp_path):
    strategy, policy = cards(MARKS[1], max_tokens=30, max_tries=3), Overdrawing(9)
    alone, drawn = spent(policy, strategy)
    for recorded in (True, False):
        with Journal(tmp_path / "journal") as journal:
            results, again = spent(policy, strategy, journal=journal)
            assert again == drawn
            assert [r.candidate for r in results] == [r.candidate for r in alone]
            assert [r.trace.proposals for r in results] == [r.trace.proposals for r in alone]
            assert bool(journal.statistics().recorded) == recorded


def test_the_laws_of_a_strategy():
    for salt in range(8):
        strategy = cards(MARKS[1], max_tokens=12, max_tries=3, proposals=2)
        policy = Overdrawing(5, salt)
        asyncio.run(check_strategy(strategy, PROMPT, policy, ToyReward(salt), eos=EOS))


def test_what_is_left_of_a_rule():
    rule = Punctuation(".", min_entropy=0, min_tokens=4, max_tokens=9)
    left = RemainingBoundary(rule, 2)
    assert left.max_tokens == 7
    assert left.engine_arguments == {
        "rsalign_marks": ".",
        "rsalign_marks_min_entropy": 0,
        "rsalign_marks_min_tokens": 2,
    }
    for length in range(1, 8):
        assert left.ends_after(length, 0, "a.") == rule.ends_after(length + 2, 0, "a.")
    assert RemainingBoundary(rule, 6).engine_arguments["rsalign_marks_min_tokens"] == 1
    assert not needs_entropy(left)


def test_where_a_segment_ends():
    @dataclass(frozen=True)
    class BeforeTheThird(FixedSize):
        def ends_before(self, num_drawn, entropy):
            return num_drawn == 2

    text = ToyPolicy(9).text
    assert find_segment_end((1, 2, 3), FixedSize(4), text) is None
    assert find_segment_end((1, 2, 3), FixedSize(3), text) == 3
    assert find_segment_end((1, 2, 3, 4), FixedSize(3), text) == 3
    assert find_segment_end((1, 2, 3), BeforeTheThird(9), text) == 2
    assert find_segment_end((2, 1, 2, 1, 1), MARKS[1], text) == 2
    assert (
        find_segment_end((1, 2), Punctuation("12", min_entropy=0, min_tokens=2, max_tokens=3), text)
        == 2
    )


def test_which_rules_look_at_entropies():
    assert needs_entropy(Entropy(1.0))
    assert needs_entropy(Punctuation(min_entropy=0.5))
    assert not needs_entropy(Punctuation(min_entropy=0))
    assert not needs_entropy(FixedSize(3))


def test_log_probabilities_are_cut_and_joined():
    segment = Segment((1, 2, 3), (-1.0, -2.0, -3.0), Stop.EOS, cached_tokens=5)
    first = segment.cut(1)
    assert (first.tokens, first.log_probs, first.stop) == ((1,), (-1.0,), Stop.BOUNDARY)
    assert first.beyond == Segment((2, 3), (-2.0, -3.0), Stop.EOS)
    assert (first.num_drawn, first.cached_tokens, first.beyond.cached_tokens) == (3, 5, 0)
    assert first.join(first.beyond) == segment
    assert segment.cut(3) is segment
    assert first.upto(1, Stop.STOP, "a").beyond is None
    assert replace(segment, log_probs=None).cut(1).join(first.beyond).log_probs is None
