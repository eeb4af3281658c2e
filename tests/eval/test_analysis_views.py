"""Rows, costs and divergences of real records, by the toy policy and reward."""

import math
from dataclasses import replace
from statistics import fmean

import pytest
import toy_study

from eval.analysis import items
from eval.analysis.configuration import (
    Configuration,
    Size,
    best_of_n,
    by_method,
    largest_pool,
)
from eval.analysis.frontier import estimate_divergence, find_frontier
from eval.analysis.intervals import SCORE, mean_interval
from eval.analysis.oracle import oracle_gap
from eval.analysis.over_optimisation import best_of_curve
from eval.analysis.paired import compare
from eval.analysis.segments import bin_positions
from eval.analysis.views import Cost, compare_at_equal_cost, make_rows
from rsalign import BestOf, Budget, Cards, FixedSize, Plain, QAlign, Usage
from rsalign.core.capabilities import describe_part
from rsalign.segments.thresholds import Constant
from rsalign.selectors import MajorityVote
from rsalign.selectors.estimators import best_of_kl
from rsalign.selectors.extraction import LastNumber
from rsalign.strategies.calibrate import Calibrate

ITEMS = len(toy_study.ITEMS)


def configuration(strategy, size=4, method="", **options):
    return Configuration(
        method=method or type(strategy).__name__,
        size=Size((), size),
        strategy=describe_part(strategy),
        records=toy_study.answer(strategy, **options),
    )


@pytest.fixture(scope="module")
def study():
    """Configurations by strategy and size."""
    return {
        (name, size): configuration(strategy, size, name)
        for size in (1, 4)
        for name, strategy in toy_study.strategies(size).items()
    }


def test_rows_are_means_over_items_and_sorted_by_score(study):
    found = make_rows(list(study.values()), resamples=200)
    assert len(found) == len(study)
    means = [row.score.mean for row in found]
    assert means == sorted(means, reverse=True)
    for row in found:
        records = row.configuration.records
        assert (row.num_items, row.num_answers) == (ITEMS, 2 * ITEMS)
        assert row.score.mean == pytest.approx(
            sum(record["grade"]["score"] or 0 for record in records) / len(records)
        )
        assert row.reward.mean == pytest.approx(
            fmean(record["answers"][0]["reward"] for record in records)
        )
        assert set(row.usage) == set(Usage().spent())
        for name, value in row.usage.items():
            assert value == pytest.approx(fmean(record["usage"][name] for record in records))
        groups = row.scores_by_group
        assert fmean(groups.values()) == pytest.approx(row.score.mean)  # both have four items


def test_the_ungradable_is_shown_and_never_a_success(study):
    plain = study["plain", 1]
    silent = [record for record in plain.records if not record["answers"][0]["text"]]
    assert silent
    row = make_rows([plain], resamples=200)[0]
    assert row.num_ungradable == len(silent)
    assert all(items.score(record) == 0 for record in silent)


def test_ties_that_a_grader_marked_are_counted(study):
    plain = study["plain", 1]
    ties = [
        {**r, "grade": {**r["grade"], "details": {"tie": i < 3}}}
        for i, r in enumerate(plain.records)
    ]
    failed = [{**plain.records[0], "grade": None}]
    row, untied = (
        make_rows([replace(plain, records=records)], resamples=200)[0]
        for records in (ties + failed, plain.records)
    )
    assert (row.num_tied, untied.num_tied) == (3, 0)


def test_items_of_one_cluster_are_not_independent(study):
    records = study["best_of", 4].records
    joined = [one | {"cluster": one["group"]} for one in records]
    alone, together = items.scores(records), items.scores(joined)
    assert {key.cluster for key in together} == {"long", "short"}
    assert {key.item: value for key, value in together.items()} == {
        key.item: value for key, value in alone.items()
    }
    one, other = mean_interval(alone, bounds=SCORE), mean_interval(together, bounds=SCORE)
    assert one.mean == pytest.approx(other.mean)
    assert other.high - other.low > 1.5 * (one.high - one.low)


def test_without_any_grade_there_is_no_score(study):
    plain = study["plain", 1]
    records = [{**r, "grade": {**r["grade"], "score": None}} for r in plain.records]
    ungraded = replace(plain, records=records)
    row = make_rows([ungraded], resamples=200)[0]
    assert row.score is None
    assert row.reward is not None
    assert row.num_ungradable == len(records)
    assert row.scores_by_group == {}
    assert oracle_gap(ungraded) is None
    beside = make_rows([plain, ungraded], resamples=200)
    assert [one.score.mean for one in beside][1] == 0.0


def test_what_failed_counts_as_no_success_and_costs_nothing(study):
    def unhappy(prompt, response):
        return None if prompt.startswith("2") else 1.0

    strategy = Plain(max_tokens=toy_study.MAX_TOKENS)
    failing = configuration(strategy, reward=unhappy)
    row = make_rows([failing], resamples=200)[0]
    failed = [record for record in failing.records if record["error"]]
    assert (
        row.num_failed
        == len(failed)
        == 2 * sum(item.messages[0].content.startswith("2") for item in toy_study.ITEMS)
    )
    assert row.num_items == ITEMS
    assert row.usage["reward_calls"] == 1.0
    assert all(items.score(record) == 0 for record in failed)


def test_hard_limits_are_shown():
    strategy = BestOf(n=4, inner=Plain(max_tokens=toy_study.MAX_TOKENS))
    limited = configuration(strategy, budget=Budget(policy_tokens=3))
    row = make_rows([limited], resamples=200)[0]
    assert row.expired == fmean(record["expired"] for record in limited.records) > 0


@pytest.fixture(scope="module")
def reference(study):
    return best_of_n(list(study.values()))[()]


def test_equal_cost_is_interpolated_between_sizes(study, reference):
    assert [one.size.answers for one in reference] == [1, 4]
    costs = [fmean(r["usage"]["policy_tokens_drawn"] for r in one.records) for one in reference]
    means = [fmean(items.scores(one.records).values()) for one in reference]
    between = next(
        one
        for one in study.values()
        if costs[0] * 1.1
        < fmean(record["usage"]["policy_tokens_drawn"] for record in one.records)
        < costs[1] * 0.9
    )
    spent = fmean(record["usage"]["policy_tokens_drawn"] for record in between.records)
    share = math.log(spent / costs[0]) / math.log(costs[1] / costs[0])
    expected = means[0] + share * (means[1] - means[0])
    found = compare_at_equal_cost(between, reference, Cost.DRAWN_TOKENS, resamples=200)
    own = fmean(items.scores(between.records).values())
    assert found.difference.mean == pytest.approx(own - expected)
    assert found.wins + found.ties + found.losses == found.difference.num_items == ITEMS


def test_equal_cost_at_a_size_of_the_reference_is_a_plain_difference(study, reference):
    soft = study["soft", 4]
    for cost in (Cost.DRAWN_TOKENS, Cost.REWARD_CALLS):
        found = compare_at_equal_cost(soft, reference, cost, resamples=200)
        own, other = items.scores(soft.records), items.scores(reference[1].records)
        assert found == compare(own, other, resamples=200)
        assert found.difference.mean == pytest.approx(fmean(own.values()) - fmean(other.values()))


@pytest.mark.parametrize("size", [1, 4])
def test_a_cost_just_outside_of_the_reference_counts_as_its_nearest_size(study, reference, size):
    """The smallest as the largest: within 5 % of either, on the far side too."""
    at = {one.size.answers: one for one in reference}[size]
    outwards = 1 if size == 4 else -1
    for apart, counts in ((0.045, True), (0.06, False)):
        records = [
            {
                **record,
                "usage": {
                    **record["usage"],
                    "policy_tokens_drawn": record["usage"]["policy_tokens_drawn"]
                    * (1 + outwards * apart),
                },
            }
            for record in at.records
        ]
        found = compare_at_equal_cost(
            replace(at, records=records), reference, Cost.DRAWN_TOKENS, resamples=200
        )
        assert (found is not None) == counts
        if counts:
            assert found.difference.mean == 0.0
            assert found.ties == ITEMS


def test_nothing_is_said_where_the_reference_was_not_run(study, reference):
    assert compare_at_equal_cost(study["qalign", 4], reference, Cost.DRAWN_TOKENS) is None
    assert compare_at_equal_cost(study["soft", 4], [], Cost.DRAWN_TOKENS) is None


def test_methods_have_their_sizes_in_order(study):
    shuffled = list(study.values())[::-1]
    sizes = by_method(shuffled)["qalign"]
    assert [one.size.answers for one in sizes] == [1, 4]
    assert largest_pool(shuffled).strategy["n"] == 4
    assert largest_pool([study["qalign", 4], study["plain", 1]]) is None
    assert best_of_n([study["soft", 4]]) == {}


def test_divergences_are_those_the_strategies_note(study):
    best_of = estimate_divergence(study["best_of", 4], resamples=200)
    assert best_of.formula.mean == pytest.approx(best_of_kl(4))
    assert best_of.best is best_of.formula
    assert 0 < best_of.estimator.mean <= math.log(4)
    vote = estimate_divergence(study["majority_vote", 4], resamples=200)
    assert vote.formula is None
    assert vote.best is vote.estimator
    assert estimate_divergence(study["plain", 1]).best.mean == 0
    assert vote.is_bound
    assert not best_of.is_bound


def test_log_z_is_of_the_answer_only_if_that_is_a_state():
    chain = {"beta": 0.5, "steps": 4, "max_tokens": toy_study.MAX_TOKENS, "pool": 16}
    state = estimate_divergence(configuration(QAlign(**chain)), resamples=200)
    assert state.best is state.log_z
    assert state.log_z.mean > 0
    assert not state.is_bound
    vote = MajorityVote(extract=LastNumber())
    elected = estimate_divergence(configuration(QAlign(**chain, answer=vote)), resamples=200)
    assert elected.target.mean > 0
    assert elected.log_z is elected.best is None
    assert elected.is_known


def test_log_z_of_few_draws_is_not_told():
    chain = {"beta": 0.5, "steps": 4, "max_tokens": toy_study.MAX_TOKENS}
    for few in ({}, {"pool": 15}, {"chains": 5, "tempering": (2.0, 4.0)}):
        found = estimate_divergence(configuration(QAlign(**chain, **few)), resamples=200)
        assert found.has_few_draws
        assert found.log_z is found.target is found.best is None
        assert found.is_known
    enough = estimate_divergence(
        configuration(QAlign(**chain, chains=6, tempering=(2.0, 4.0))), resamples=200
    )
    # 6 chains, each of the replica at the target and two hot ones: 18 draws
    assert enough.log_z is not None
    assert not enough.has_few_draws
    assert enough.best is enough.log_z


@pytest.mark.parametrize(("max_tries", "is_low"), [(200, False), (2, True)])
def test_tries_are_too_low_where_many_answers_were_forced(max_tries, is_low):
    cards = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=1.0),
        max_tokens=toy_study.MAX_TOKENS,
        max_tries=max_tries,
    )
    one = configuration(cards)
    forced = fmean(record["forced"] for record in one.records)
    assert (0.02 < forced < 1) == is_low
    found = estimate_divergence(one, resamples=200)
    assert (found.tries is None) == (found.low_tries is not None) == is_low
    assert found.best is found.tries
    assert not found.is_bound


def test_tries_given_a_drawn_target_are_an_upper_bound():
    cards = Cards(segmenter=FixedSize(2), max_tokens=toy_study.MAX_TOKENS, max_tries=200)
    found = estimate_divergence(configuration(Calibrate(inner=cards, draws=2)), resamples=200)
    assert found.best is found.tries
    assert found.is_bound


def test_a_pool_of_something_else_tells_no_divergence():
    inner = Cards(
        segmenter=FixedSize(2), threshold=Constant(value=0.0), max_tokens=toy_study.MAX_TOKENS
    )
    assert estimate_divergence(configuration(BestOf(n=2, inner=inner))).best is None


def test_the_frontier_is_what_no_point_beats():
    points = [(0.0, 1.0), (1.0, 3.0), (1.0, 2.0), (2.0, 2.5), (3.0, 3.0), (4.0, 5.0)]
    assert find_frontier(points) == [(0.0, 1.0), (1.0, 3.0), (4.0, 5.0)]


def test_the_oracle_is_the_best_candidate_of_each_answer(study):
    one = study["best_of", 4]
    found = oracle_gap(one, resamples=200)
    best = [max(c["score"] or 0 for c in record["candidates"]) for record in one.records]
    assert found.num_candidates == 4
    assert found.oracle == pytest.approx(fmean(best))
    assert found.gap.mean == pytest.approx(found.oracle - found.picked)
    assert found.picked == pytest.approx(fmean(items.scores(one.records).values()))


def test_the_curve_ends_at_what_best_of_n_picked(study):
    one = study["best_of", 4]
    curve = best_of_curve(one.records, resamples=200)
    row = make_rows([one], resamples=200)[0]
    assert [point.n for point in curve.points] == [1, 2, 4]
    assert curve.points[-1].reward.mean == pytest.approx(row.reward.mean)
    assert curve.points[-1].score.mean == pytest.approx(row.score.mean)
    assert curve.points[-1].tokens == pytest.approx(row.usage["policy_tokens_drawn"])


@pytest.mark.parametrize("target", [-0.5, 0.5, 3.0])
def test_positions_account_for_every_token(target):
    """At 3 nothing is accepted: every segment is forced after its tries, and not drawn again."""
    strategy = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=target),
        max_tokens=toy_study.MAX_TOKENS,
        max_tries=3,
    )
    records = configuration(strategy).records
    bins = bin_positions(records, num_bins=3)
    assert [(one.start, one.end) for one in bins] == [(0, 2), (2, 4), (4, 6)]
    usage = [record["usage"] for record in records]
    drawn = sum(one["policy_tokens_drawn"] for one in usage)
    assert sum(one.drawn_tokens for one in bins) == drawn
    assert sum(one.wasted_tokens for one in bins) == drawn - sum(
        one["policy_tokens_kept"] for one in usage
    )
    notes = [record["diagnostics"] for record in records]
    assert sum(one.num_forced for one in bins) == sum(one["num_forced"] for one in notes)
    assert sum(one.num_proposals for one in bins) == sum(one["num_proposals"] for one in notes)
    assert sum(one.num_accepted for one in bins) == sum(
        one["num_segments"] - one["num_forced"] for one in notes
    )


def test_nothing_proposed_has_no_positions():
    assert bin_positions([]) == []


class Renamed(Plain):
    """A strategy that analysis has never heard of, and that declares the law of its answers."""


class Silent:
    """A strategy that declares nothing."""

    needs_reward = False

    async def sample(self, prompt, run):
        run.trace.note(kl_formula=1.0)
        return await Plain(max_tokens=toy_study.MAX_TOKENS).sample(prompt, run)


def test_a_divergence_is_told_by_what_a_strategy_declares_and_not_by_its_name():
    known = estimate_divergence(configuration(Renamed(max_tokens=toy_study.MAX_TOKENS)))
    assert known.formula.mean == 0
    assert not estimate_divergence(configuration(Silent())).is_known
    wrapped = configuration(BestOf(n=4, inner=Renamed(max_tokens=toy_study.MAX_TOKENS)))
    assert estimate_divergence(wrapped).formula.mean == pytest.approx(best_of_kl(4))
    assert best_of_n([wrapped]) == {(): [wrapped]}
    assert largest_pool([wrapped]) is wrapped
