"""`python -m eval.bench cards`: its figures are what happened."""

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import fmean

import pytest

from eval.bench.__main__ import main
from eval.bench.cards import CardsBench
from eval.bench.cards_costs import of_policy, of_reward
from eval.bench.cards_quality import quality, segments
from eval.bench.measured import Looped, MeasuredRow
from eval.bench.reference_cards import Spent
from rsalign import Aligner, BestOf, Cards, Entropy, FixedSize, Plain, Stop, Verdict
from rsalign.core.protocols import Scored
from rsalign.core.types import Candidate, Response
from rsalign.embedded import POLICY, REWARD
from rsalign.segments.thresholds import Constant
from rsalign.testing import ToyPolicy, ToyReward

POOL = 8


@dataclass(frozen=True)
class ToyProblem:
    question: str

    def grade(self, text):
        return text.endswith("1")


PROBLEMS = [ToyProblem(text) for text in ("1", "2", "1 2", "2 1", "1 1", "2 2")]


class CostlyReward(ToyReward):
    """Which knows what it cost: 3 tokens more than the response has, 1 or 2 of them cached."""

    async def score(self, prompt, response):
        size = len(response.tokens)
        value = await super().score(prompt, response)
        return Scored(value, tokens=size + 3, cached_tokens=1 + size % 2)


@pytest.fixture(scope="module")
def measured():
    """Rows of answers by the toys."""
    with Aligner(ToyPolicy(3), CostlyReward()) as toy:

        def row(strategy):
            asked = [problem.question for problem in PROBLEMS]
            answers = [
                toy.generate(asked, strategy=strategy, seed=seed, use_tqdm=False)
                for seed in range(20)
            ]
            return MeasuredRow("cards", strategy, PROBLEMS, answers)

        yield row


@pytest.fixture(scope="module")
def cards(measured):
    return measured(Cards(segmenter=FixedSize(2), threshold=Constant(value=1.0), max_tokens=6))


def best_of(n):
    return BestOf(n=n, inner=Plain(max_tokens=6))


@pytest.fixture(scope="module")
def looped():
    """Two answers of the loop, one of them to a problem that nobody else was asked."""
    answer = Candidate(Response((1, 1), "1 1", Stop.LENGTH), 0.5)
    spent = Spent(tokens_drawn=9, num_segments=2, num_tested=5, num_forced=1)
    return [Looped(PROBLEMS[2], answer, spent), Looped(ToyProblem("another"), answer, spent)]


@pytest.fixture(scope="module")
def lines(measured, cards, looped):
    return list(quality([cards], [measured(best_of(POOL))], looped))


def figures(lines, name):
    """Tokens drawn, reward and right of the line that starts so."""
    (line,) = (line for line in lines if line.startswith(name + "  "))
    drawn, reward, _, _, right, _, _ = line[len(name) :].split()
    return pytest.approx((float(drawn), float(reward), float(right)), abs=0.0501)


def worth(row):
    """The same of a row, from its answers."""
    right = [
        problem.grade(answer.outputs[0].text)
        for answers in row.answers
        for problem, answer in zip(row.problems, answers, strict=True)
    ]
    return row.drawn, fmean(answer.outputs[0].reward for answer in row.flat), fmean(right)


@pytest.mark.parametrize(("name", "n"), [("plain", 1), ("best of 2", 2), ("best of 8", 8)])
def test_smaller_pools_are_read_off_the_largest(measured, lines, name, n):
    """They are what the same seeds give at that size."""
    assert worth(measured(best_of(n))) == figures(lines, name)


def test_cards_and_best_of_n_are_compared_at_equal_tokens(measured, cards, lines):
    (name,) = (line[:32].rstrip() for line in lines if " less best of " in line)
    size = float(name.split()[-1])
    small, large = worth(measured(best_of(int(size)))), worth(measured(best_of(int(size) + 1)))
    assert small[0] < cards.drawn < large[0]
    share = (cards.drawn - small[0]) / (large[0] - small[0])
    assert size == pytest.approx(int(size) + share, abs=0.0051)
    matched = [(1 - share) * a + share * b for a, b in zip(small, large, strict=True)]
    _, reward, right = worth(cards)
    assert (cards.drawn, reward - matched[1], right - matched[2]) == figures(lines, name)


def test_the_loop_is_compared_on_the_same_problems(cards, lines):
    of_one = [(answers[2].outputs[0].reward) for answers in cards.answers]
    assert figures(lines, "the loop, 1 problems").expected[0] == 9
    assert fmean(of_one) == pytest.approx(
        figures(lines, "cards, on those").expected[1], abs=0.00051
    )


def test_segments_are_counted(cards, looped):
    table = {line[:30].rstrip(): line[30:].split() for line in segments([cards], looped)}
    proposals = [p for answer in cards.flat for p in answer.alignment.trace.proposals]
    accepted = sum(p.verdict is Verdict.ACCEPTED for p in proposals)
    forced = sum(p.verdict is Verdict.FORCED for p in proposals)
    tested = len(proposals) - forced
    expected = {
        "segments of an answer": ((accepted + forced) / len(cards.flat), 2),
        "drafts tested for a segment": (tested / (accepted + forced), 2.5),
        "share of drafts accepted": (accepted / tested, 0.2),
        "share of segments forced": (forced / (accepted + forced), 0.5),
    }
    for name, values in expected.items():
        assert [float(value) for value in table[name]] == pytest.approx(values, abs=0.0051)


def test_rewards_are_counted_by_segment(cards):
    """The k-th of at most 2 tokens begins after 2 (k - 1)."""
    costs = defaultdict(list)
    for answer in cards.flat:
        for proposal in answer.alignment.trace.proposals:
            if proposal.verdict is not Verdict.FORCED:
                size = len(proposal.candidate.tokens)
                costs[(size + 1) // 2].append((size + 3, size + 2 - size % 2))
    table = {line[:26].rstrip(): line[26:].split() for line in of_reward(cards)}
    assert len(costs) == 3
    for number, segment in costs.items():
        given, computed = (fmean(column) for column in zip(*segment, strict=True))
        shown = [float(figure) for figure in table[f"draft of segment {number}"]]
        assert shown == pytest.approx([given, computed, len(segment)], abs=0.051)


def test_what_was_read_again_is_what_is_left(cards, looped):
    prompt = fmean(len(problem.question.split()) for problem in PROBLEMS)
    requests = fmean(a.alignment.usage.policy_requests for a in cards.flat)
    total = round((100 + cards.drawn + prompt) * len(cards.flat))
    spent = Spent(policy_forwards=round(7 * (cards.drawn + prompt)))
    row, loop = replace(cards, policy_forwards=total), replace(looped[0], spent=spent)
    said = " ".join(of_policy(row, [loop], 16))
    assert f"and 100 read again ({100 / requests:.1f} for each of {requests:.1f} requests" in said
    assert "whole blocks of 16 tokens" in said
    assert "would be 7 times as many" in said


@pytest.fixture(scope="module")
def bench():
    settings = Cards(
        segmenter=Entropy(1.0), threshold=Constant(value=1.0), max_tokens=40, max_tries=4
    )
    with CardsBench(POLICY, REWARD, settings) as bench:
        yield bench


@pytest.mark.engine
def test_forwards_are_what_the_answers_usage_says(bench):
    """Where nothing is cancelled. A token that ends a request is drawn but never read."""
    plain, one_by_one, *_ = bench.rows()
    for row in (plain, one_by_one):
        bench.measure(row, open_at_once=1, seed=1)
    usages = [answer.alignment.usage for answer in plain.flat]
    assert len(usages) == 8
    assert plain.reward_forwards == 0
    assert plain.policy_forwards == sum(
        u.prompt_tokens - u.cached_tokens + u.policy_tokens_drawn - 1 for u in usages
    )
    usages = [answer.alignment.usage for answer in one_by_one.flat]
    drafts = [
        proposal.candidate.response
        for answer in one_by_one.flat
        for proposal in answer.alignment.trace.proposals
        if proposal.verdict is not Verdict.FORCED
    ]
    assert len(drafts) == sum(u.policy_requests for u in usages)
    unread = sum(draft.stop is not Stop.BOUNDARY for draft in drafts)
    assert one_by_one.policy_forwards == -unread + sum(
        u.prompt_tokens - u.cached_tokens + u.policy_tokens_drawn for u in usages
    )
    assert one_by_one.reward_forwards == sum(
        u.reward_tokens - u.reward_cached_tokens for u in usages
    )
    assert sum(u.reward_cached_tokens for u in usages) > 0


@pytest.mark.engine
def test_caches_are_empty_at_the_start(bench):
    """So that every prompt is computed, however often it was asked before."""
    plain, *_ = bench.rows()
    for _ in range(2):
        bench.measure(plain, open_at_once=1, seed=2)
    assert [answer.alignment.usage.cached_tokens for answer in plain.flat] == [0] * 16


@pytest.mark.engine
def test_the_report(bench):
    lines = list(bench.report(repeats=1, concurrencies=[1], loop_prompts=3))
    table = {}
    for line in lines:  # the first that starts so is of costs
        columns = line[16:].translate(str.maketrans("()", "  ")).split()
        table.setdefault(line[:16].rstrip(), columns)
    speed, policy, reward, drawn = map(float, table["the loop"])
    for m in ("1", "4", "8", "auto"):
        row = [float(figure) for figure in table[f"cards, m = {m}"]]
        assert len(row) == 7
        for ratio, expected in (
            (row[1], row[0] / speed),
            (row[3], policy / row[2]),
            (row[5], reward / row[4]),
        ):
            assert ratio == pytest.approx(expected, rel=0.02, abs=0.06)  # all are rounded
        assert row[6] < row[2] < policy
    assert drawn > 0
    said = "\n".join(lines)
    for m in ("4", "8", "auto"):
        assert f"cards, m = {m}: 8 of 8 answers are those of m = 1" in said


def test_numbers_are_checked_before_anything_starts(capsys):
    for option in ("--repeats", "--loop-prompts", "--concurrency", "--max-tokens"):
        with pytest.raises(SystemExit) as stopped:
            main(["cards", option, "0"])
        assert stopped.value.code == 2
        assert "0 is not at least 1" in capsys.readouterr().err
