"""Names say what tells configurations apart, and no more."""

import pytest

from eval.analysis.declared import is_pool_of_draws
from eval.analysis.naming import is_best_of, method_names
from rsalign import BestOf, Cards, Entropy, FixedSize, Plain, QAlign
from rsalign.cli.generate import plain_data
from rsalign.selectors import MajorityVote, MinimumBayesRisk, Soft
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.utilities import Rouge1
from rsalign.strategies.calibrate import Calibrate

VOTE = MajorityVote(extract=LastNumber())


def names(*sized):
    strategies = [plain_data(strategy) for strategy, _ in sized]
    return method_names(strategies, [size for _, size in sized])


def test_a_strategy_alone_is_named_by_its_class():
    assert names((BestOf(n=4), 4)) == ["BestOf"]
    assert names((Calibrate(inner=Cards(segmenter=FixedSize(8))), 4)) == ["Calibrate(Cards)"]


def test_sizes_of_a_method_share_its_name():
    sized = [(BestOf(n=n), n) for n in (1, 4, 16)]
    sized += [(QAlign(beta=1.0, steps=2 * n), n) for n in (1, 4)]
    assert names(*sized) == ["BestOf"] * 3 + ["QAlign"] * 2


def test_parts_are_named_where_they_differ():
    found = names(
        (BestOf(n=4), 4),
        (BestOf(n=4, select=VOTE), 4),
        (BestOf(n=4, select=MinimumBayesRisk(utility=Rouge1())), 4),
        (Plain(), 1),
        (BestOf(n=4, inner=Cards(segmenter=FixedSize(8))), 4),
    )
    assert found == [
        "BestOf Hard",
        "BestOf MajorityVote",
        "BestOf MinimumBayesRisk",
        "Plain",
        "BestOf(Cards)",
    ]


def test_settings_are_named_where_no_size_explains_them():
    found = names(
        *((BestOf(n=n, select=Soft(temperature=t)), n) for n in (4, 16) for t in (0.5, 1.0)),
        (BestOf(n=16), 16),
    )
    assert found == [
        "BestOf Soft, select.temperature=0.5",
        "BestOf Soft, select.temperature=1.0",
        "BestOf Soft, select.temperature=0.5",
        "BestOf Soft, select.temperature=1.0",
        "BestOf Hard",
    ]


def test_equal_budgets_explain_nothing():
    assert names((BestOf(n=4), 16), (BestOf(n=8), 16)) == ["BestOf, n=4", "BestOf, n=8"]


def test_classes_deep_inside_are_named_too():
    found = names(
        (Calibrate(inner=Cards(segmenter=FixedSize(8))), 4),
        (Calibrate(inner=Cards(segmenter=Entropy(threshold=1.0))), 4),
    )
    assert found == ["Calibrate(Cards) FixedSize", "Calibrate(Cards) Entropy"]


@pytest.mark.parametrize(
    ("strategy", "plain_pool", "best_of"),
    [
        (BestOf(n=4), True, True),
        (BestOf(n=4, select=VOTE), True, False),
        (BestOf(n=4, inner=Cards(segmenter=FixedSize(8))), False, False),
        (Plain(), False, False),
    ],
)
def test_what_is_best_of_n(strategy, plain_pool, best_of):
    assert is_pool_of_draws(plain_data(strategy)) is plain_pool
    assert is_best_of(plain_data(strategy)) is best_of
