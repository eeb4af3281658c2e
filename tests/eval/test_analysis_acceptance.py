"""KL of rejection sampling from the number of tries, against the exact one on the toy policy."""

import math
from statistics import fmean, stdev

import pytest
import toy_study
from cards_law import over, segments, soft

from eval.analysis.acceptance import MOST_LEFT_OUT, accepted_kl, is_too_low
from eval.record import make_record
from rsalign import Aligner, Cards, FixedSize
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward

BETA, BAR, MAX_TOKENS = 0.5, 1.0, 4
NEVER_FORCED = 1000


def rejection(size):
    if size == MAX_TOKENS:
        return Rejection(beta=BETA, bound=BAR, max_tokens=MAX_TOKENS, max_draws=NEVER_FORCED)
    return Cards(
        segmenter=FixedSize(size),
        threshold=Constant(value=BAR),
        acceptance=SoftAcceptance(beta=BETA),
        max_tokens=MAX_TOKENS,
        max_tries=NEVER_FORCED,
    )


def exact_kl(kept, size):
    """Of all that follows `kept`, from the tables: each segment has the law q(s) a(s) / A."""
    q = segments(ToyPolicy(3), kept, max_tokens=MAX_TOKENS, size=size)
    accept = {s: soft(BETA)(ToyReward().value(s), BAR) for s in q}
    mass = math.fsum(q[s] * accept[s] for s in q)
    return math.fsum(
        q[s]
        * accept[s]
        / mass
        * (math.log(accept[s] / mass) + (0 if over(s, MAX_TOKENS) else exact_kl(s, size)))
        for s in q
    )


def records_of(strategy, number):
    with Aligner(ToyPolicy(3), ToyReward(), strategy) as aligner:
        outputs = aligner.generate(
            [{"prompt": "1", "id": str(i)} for i in range(number)], use_tqdm=False
        )
    nothing = {"config": "", "task": "", "strategy": strategy, "budget": None}
    item = toy_study.ITEMS[0]
    return [make_record(one, item, None, toy_study.grades(one), **nothing) for one in outputs]


@pytest.mark.parametrize("size", [1, 2, MAX_TOKENS])
def test_the_mean_is_the_exact_divergence(size):
    records = records_of(rejection(size), 600)
    found = [accepted_kl(one) for one in records]
    error = stdev(found) / math.sqrt(len(found))
    exact = exact_kl((), size)
    assert exact > 0.1
    assert fmean(found) == pytest.approx(exact, abs=4 * error)
    without_tries = fmean(
        sum(p["log_accept"] for p in one["proposals"] if p["verdict"] == "accepted")
        for one in records
    )
    assert abs(without_tries - exact) > 8 * error  # so the test could have failed


def test_nothing_is_said_of_what_was_forced_or_is_no_rejection_sampling():
    few = Cards(segmenter=FixedSize(2), threshold=Constant(value=BAR), max_tokens=4, max_tries=1)
    found = records_of(few, 40)
    assert {one["forced"] for one in found} == {True, False}
    assert all((accepted_kl(one) is None) == one["forced"] for one in found)
    assert is_too_low(found)
    best = toy_study.strategies(4)["best_of"]
    assert all(accepted_kl(one) is None for one in records_of(best, 3))


def test_the_mean_is_too_low_where_more_than_a_few_are_left_out():
    kept, forced = (
        next(one for one in records_of(strategy, 40) if one["forced"] == is_forced)
        for strategy, is_forced in (
            (rejection(2), False),
            (Cards(segmenter=FixedSize(2), threshold=Constant(value=BAR), max_tries=1), True),
        )
    )
    at_most = round(MOST_LEFT_OUT * 100)
    assert not is_too_low([kept] * (100 - at_most) + [forced] * at_most)
    assert is_too_low([kept] * (99 - at_most) + [forced] * (at_most + 1))
    failed = {**forced, "error": {"kind": "PolicyError", "message": "gone"}}
    assert not is_too_low([kept] * 10 + [failed] * 10)


def test_what_failed_is_no_answer_that_the_share_refers_to():
    taken = {
        "answer_law": "rejection",
        "error": None,
        "forced": False,
        "expired": False,
        "proposals": [{"kept": 0, "log_accept": 0.0, "verdict": "accepted"}],
    }
    forced, failed = {**taken, "forced": True}, {**taken, "error": "RewardError"}
    answered = [forced] * 2 + [taken] * 58  # 3.3 %, above the 2 % that may be left out
    assert MOST_LEFT_OUT == 0.02
    assert is_too_low(answered)
    assert is_too_low([*answered, *[failed] * 60])
    assert not is_too_low([forced, *[taken] * 58, *[failed] * 60])
