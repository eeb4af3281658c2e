"""Answers to many prompts, and many answers to one: each has an address and a run of its own."""

import pytest

from rsalign import Aligner, BestOf, Budget, Cards, FixedSize, Plain
from rsalign.core.align import Result
from rsalign.core.answer import rank_results
from rsalign.core.budget import Usage
from rsalign.core.trace import Trace
from rsalign.core.types import Candidate, Response, Stop
from rsalign.report.page import render_page
from rsalign.segments.thresholds import Constant
from rsalign.testing import ToyPolicy, ToyReward

BEST = BestOf(n=3, inner=Plain(max_tokens=6))
CARDS = Cards(segmenter=FixedSize(2), threshold=Constant(value=0.0), max_tokens=8)


class Tunable(ToyPolicy):
    def with_sampling(self, sampling):
        return self


def params(**given):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 6} | given)


@pytest.fixture
def aligner():
    with Aligner(Tunable(6), ToyReward(), BEST, seed=3) as aligner:
        yield aligner


def addresses(alignment):
    """Of all proposals that know theirs; those of `Cards` do."""
    return {
        proposal.address
        for trace in alignment.trace.walk()
        for proposal in trace.proposals
        if proposal.address
    }


def test_seed_0_is_a_seed():
    """It takes the place of the aligner's like any other; only None does not."""
    with Aligner(Tunable(6), ToyReward(), BEST, seed=5) as five:
        zeroed = five.generate(["1", "2"], params(seed=0), use_tqdm=False)
    with Aligner(Tunable(6), ToyReward(), BEST, seed=0) as zero:
        expected = zero.generate(["1", "2"], params(), use_tqdm=False)
    assert {one.alignment.seed for one in zeroed} == {0}
    assert [one.outputs for one in zeroed] == [one.outputs for one in expected]


def test_a_seed_of_the_call_takes_the_place_of_the_aligners(aligner):
    """The address below it stays: prompts of a batch are independent, equal ones too."""
    prompts = ["1", "1", "2", {"prompt": "1", "id": "mine"}]
    seeded = aligner.generate(prompts, params(seed=5), use_tqdm=False)
    with Aligner(Tunable(6), ToyReward(), BEST, seed=5) as other:
        expected = other.generate(prompts, params(), use_tqdm=False)
    assert [one.outputs for one in seeded] == [one.outputs for one in expected]
    assert len({tuple(one.outputs[0].token_ids) for one in (seeded[0], seeded[1], seeded[3])}) == 3
    assert {one.alignment.seed for one in seeded} == {5}
    again = aligner.generate(prompts, params(seed=5), use_tqdm=False)
    assert [one.outputs for one in again] == [one.outputs for one in seeded]


def test_one_prompt_alone_is_the_first_of_many(aligner):
    (alone,) = aligner.generate("1", params(seed=5), use_tqdm=False)
    first, _ = aligner.generate(["1", "2"], params(seed=5), use_tqdm=False)
    (chat,) = aligner.chat([{"role": "user", "content": "1"}], params(seed=5), use_tqdm=False)
    assert alone.outputs == first.outputs == chat.outputs


def test_no_two_prompts_of_a_seeded_batch_share_an_address(aligner):
    outputs = aligner.generate(["1"] * 8, params(seed=5, n=2), strategy=CARDS, use_tqdm=False)
    found = [addresses(output.alignment) for output in outputs]
    assert all(found)
    assert len(set().union(*found)) == sum(map(len, found))


@pytest.mark.parametrize("strategy", [BEST, CARDS], ids=["best", "cards"])
def test_each_ranked_answer_has_its_own_run(strategy):
    with Aligner(Tunable(6), ToyReward(), strategy, seed=1) as aligner:
        (output,) = aligner.generate("1", params(n=6), use_tqdm=False)
    samples = [answer.sample for answer in output.outputs]
    assert sorted(samples) == list(range(6))
    assert samples != sorted(samples)  # ranked otherwise than drawn, or this tests nothing
    rewards = [answer.reward for answer in output.outputs]
    assert rewards == sorted(rewards, reverse=True)
    for rank, answer in enumerate(output.outputs):
        own = answer.alignment
        assert answer.index == rank
        assert own.trace.committed == tuple(answer.token_ids)
        assert own.trace is output.alignment.trace.children["sample", answer.sample]
        assert own.reward == answer.reward
        assert own.diagnostics == dict(own.trace.notes)
        assert all(("sample", answer.sample) == path[2:4] for path in addresses(own))
        assert bool(addresses(own)) == (strategy is CARDS)
    whole = output.alignment
    each = [answer.alignment for answer in output.outputs]
    assert whole.reward == rewards[0]
    assert whole.diagnostics == each[0].diagnostics
    assert whole.usage.reward_calls == sum(one.usage.reward_calls for one in each)
    assert whole.usage.policy_tokens_kept == sum(len(one.token_ids) for one in output.outputs)
    assert whole.forced == any(one.forced for one in each)


def test_only_the_answer_that_a_budget_ended_says_so():
    with Aligner(Tunable(6), ToyReward(), CARDS, seed=1) as aligner:
        (output,) = aligner.generate(
            "1", params(n=8, max_tokens=8), budget=Budget(policy_tokens=9), use_tqdm=False
        )
    expired = [answer.alignment.expired for answer in output.outputs]
    assert any(expired)
    assert not all(expired)
    assert output.alignment.expired


def test_one_answer_has_the_whole_run(aligner):
    (output,) = aligner.generate("1", params(), use_tqdm=False)
    assert output.outputs[0].alignment is output.alignment
    assert output.outputs[0].sample == 0


def test_the_page_shows_each_answer_above_its_own_run():
    """The text of answer i is the one that its run took."""
    with Aligner(Tunable(6), ToyReward(), BEST, seed=1) as aligner:
        (output,) = aligner.generate("1", params(n=4), use_tqdm=False)
        shown = render_page([output], decode=aligner.policy.text)
    from rsalign.report.page import _prompt

    view = _prompt(0, output, aligner.policy.text, 100)
    for answer, section in zip(view.answers, view.sections, strict=True):
        (taken,) = [one for one in section.candidates if one.verdict == "accepted"]
        assert taken.reward == answer.reward
        assert taken.text.kept.text + taken.text.new.text == answer.text.text
    assert "Answer 1" in shown


def test_an_answer_without_a_reward_is_never_the_best():
    def result(reward, judged=True):
        candidate = Candidate(Response((1,), "1", Stop.EOS), reward)
        return Result(
            candidate=candidate, judged=judged, trace=Trace(), usage=Usage(), seed=0, expired=False
        )

    results = [result(-1.0), result(0.0, judged=False), result(-3.0), result(-1.0)]
    assert rank_results(results) == [0, 3, 2, 1]


def test_a_judged_piece_comes_before_an_answer_that_was_not_judged():
    """And among those that were not judged a whole answer comes first, whatever the order."""

    def result(stop, judged):
        candidate = Candidate(Response((1,), "1", stop), -1.0 if judged else 0.0)
        return Result(
            candidate=candidate, judged=judged, trace=Trace(), usage=Usage(), seed=0, expired=True
        )

    piece, whole = result(Stop.BOUNDARY, False), result(Stop.EOS, False)
    judged = result(Stop.BOUNDARY, True)
    assert rank_results([piece, whole, judged]) == [2, 1, 0]
