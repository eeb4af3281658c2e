"""Every selector on the embedded models: one pool of answers, ten choices, and what they note."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from exact import language_model

from rsalign import BestOf, Key, Plain, Run, Verdict
from rsalign.embedded.problems import extract_answer, problem
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
from rsalign.selectors.extraction import AfterMarker
from rsalign.selectors.utilities import Rouge1
from rsalign.strategies.early_stop import EarlyStop

pytestmark = pytest.mark.engine

N = 8
PROBLEMS = (0, 3, 6)
ANSWER = AfterMarker("Answer:")


@dataclass(frozen=True)
class MoreRight:
    """Compares leading right lines of solutions to a held-out problem."""

    index: int

    async def prefer(self, prompt, one, other):
        asked = problem("heldout", self.index)
        more = asked.num_right_lines(one.text) - asked.num_right_lines(other.text)
        return 1 / (1 + math.exp(-more))


def selectors(index):
    return [
        Hard(),
        Soft(temperature=0.5),
        MajorityVote(extract=ANSWER),
        RewardWeightedVote(extract=ANSWER, temperature=0.5),
        ConfidenceWeightedVote(extract=ANSWER),
        SelfCertainty(extract=ANSWER),
        BestOfMajority(extract=ANSWER, share=0.25),
        MinimumBayesRisk(utility=Rouge1()),
        Knockout(judge=MoreRight(index)),
        TopFraction(m=4),
        ChiSquaredPessimism(beta=0.5),
        StatisticalRejection(beta=0.5),
        Last(),
        ByWeight(),
    ]


@pytest.fixture(scope="module")
def traces(policy, reward):
    """By problem and kind of selector; the same key, so the same eight answers for each."""
    from rsalign import Message, Prompt

    async def main():
        found = {}
        for index in PROBLEMS:
            messages = (Message("user", problem("heldout", index).question),)
            prompt = Prompt(messages, policy.encode_chat(messages))
            for select in selectors(index):
                run = Run(policy, reward, Key(11, (index,)))
                strategy = BestOf(n=N, inner=Plain(max_tokens=128), select=select)
                answer = await strategy.sample(prompt, run)
                assert run.trace.committed == answer.tokens
                found[index, type(select)] = run.trace
        return found

    return asyncio.run(main())


def chosen(trace):
    (index,) = (i for i, p in enumerate(trace.proposals) if p.verdict is Verdict.ACCEPTED)
    return index


@pytest.mark.parametrize("index", PROBLEMS)
def test_all_chose_from_the_same_answers(traces, index):
    kinds = {kind for of, kind in traces if of == index}
    assert kinds == set(SELECTORS.values())
    hard = traces[index, Hard]
    for kind in kinds:
        trace = traces[index, kind]
        assert trace.notes["rewards"] == hard.notes["rewards"]
        assert [p.candidate for p in trace.proposals] == [p.candidate for p in hard.proposals]
        assert math.fsum(math.exp(p.log_accept) for p in trace.proposals) == pytest.approx(1)
        assert 0 <= trace.notes["kl_estimate"] <= math.log(N) + 1e-9
        assert 1 <= trace.notes["effective_sample_size"] <= N + 1e-9


@pytest.mark.parametrize("index", PROBLEMS)
def test_rewards_decide(traces, index):
    rewards = traces[index, Hard].notes["rewards"]
    assert rewards[chosen(traces[index, Hard])] == max(rewards)
    assert traces[index, Hard].notes["kl_formula"] == pytest.approx(math.log(8) - 7 / 8)
    assert rewards[chosen(traces[index, TopFraction])] in sorted(rewards)[-2:]
    soft = [math.exp(p.log_accept) for p in traces[index, Soft].proposals]
    total = math.fsum(math.exp(reward / 0.5) for reward in rewards)
    assert soft == pytest.approx([math.exp(reward / 0.5) / total for reward in rewards])
    pessimism = traces[index, ChiSquaredPessimism].notes
    weights = [max(0, reward - pessimism["threshold"]) / 0.5 for reward in rewards[:4]]
    assert math.fsum(weights) / 4 == pytest.approx(1)
    assert len(pessimism["accept_probs"]) == 3


@pytest.mark.parametrize("index", PROBLEMS)
def test_answers_decide(traces, index):
    texts = [p.candidate.response.text for p in traces[index, Hard].proposals]
    counts = Counter(text for text in map(ANSWER, texts) if text is not None)
    vote = traces[index, MajorityVote]
    assert counts[vote.notes["answer"]] == max(counts.values())
    assert vote.notes["vote_shares"] == pytest.approx([counts[ANSWER(t)] / N for t in texts])
    voting = (MajorityVote, RewardWeightedVote, ConfidenceWeightedVote, SelfCertainty)
    for kind in (*voting, BestOfMajority):
        trace = traces[index, kind]
        assert trace.notes["answer"] == str(extract_answer(texts[chosen(trace)]))
    expected = traces[index, MinimumBayesRisk].notes["expected_utilities"]
    assert expected[chosen(traces[index, MinimumBayesRisk])] == max(expected)


@pytest.mark.parametrize("index", PROBLEMS)
def test_a_judge_decides(traces, index):
    trace, asked = traces[index, Knockout], problem("heldout", index)
    right = [asked.num_right_lines(p.candidate.response.text) for p in trace.proposals]
    assert right[chosen(trace)] == max(right)
    assert trace.notes["num_comparisons"] == N - 1
    assert min(trace.notes["preferences"]) >= 0.5


@torch.inference_mode()
def self_certainty(prompt, tokens):
    """KL(uniform || law), the mean over tokens, by transformers."""
    logits = language_model()(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    law = logits.double().log_softmax(-1)
    return float(-(law + math.log(law.shape[-1])).mean())


@pytest.mark.parametrize("index", PROBLEMS)
def test_the_policy_s_certainty_decides(policy, ask, traces, index):
    trace = traces[index, SelfCertainty]
    drawn = [p.candidate.response for p in trace.proposals]
    means = [self_certainty(ask(index).tokens, response.tokens) for response in drawn]
    assert trace.notes["self_certainties"] == pytest.approx(means, abs=1e-4)
    ranked = sorted(range(N), key=lambda i: -means[i])
    votes = Counter()
    for rank, i in enumerate(ranked):
        if ANSWER(drawn[i].text) is not None:
            votes[ANSWER(drawn[i].text)] += (N - rank) ** 0.5
    assert trace.notes["answer"] in (a for a, v in votes.items() if v == max(votes.values()))


def test_drawing_stops_when_the_answers_agree(policy, reward, ask):
    vote = SelfCertainty(extract=ANSWER)
    inner = Plain(max_tokens=128)
    numbers = []
    for index in PROBLEMS:
        run = Run(policy, reward, Key(11, (index,)))
        strategy = EarlyStop(n=N, share=0.7, at_least=2, batch=2, inner=inner, select=vote)
        answer = asyncio.run(strategy.sample(ask(index), run))
        number = run.trace.notes["num_draws"]
        again = Run(policy, reward, Key(11, (index,)))
        best = BestOf(n=number, inner=inner, select=vote)
        assert asyncio.run(best.sample(ask(index), again)) == answer
        assert number == N or max(run.trace.notes["vote_shares"]) >= 0.7
        numbers.append(number)
    assert min(numbers) < N
