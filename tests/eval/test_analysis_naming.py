"""Names say what tells configurations apart, and no more."""

import pytest

from eval.analysis.naming import name_methods
from rsalign import BestOf, Cards, Entropy, FixedSize, ParticleGibbs, Plain, QAlign
from rsalign.core.capabilities import AnswerLaw, answer_law, describe_part, independent_draws
from rsalign.selectors import MajorityVote, MinimumBayesRisk, Soft
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.utilities import Rouge1
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.early_stop import EarlyStop

VOTE = MajorityVote(extract=LastNumber())


def names(*sized):
    strategies = [describe_part(strategy) for strategy, _ in sized]
    return name_methods(strategies, [size for _, size in sized])


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


def test_parts_in_a_list_are_named_like_others():
    gibbs = ParticleGibbs(segmenter=FixedSize(8), n=3)
    found = names((QAlign(steps=24), 16), (QAlign(steps=11, moves=(gibbs,)), 16))
    assert found == ["QAlign", "QAlign ParticleGibbs"]


def test_classes_deep_inside_are_named_too():
    found = names(
        (Calibrate(inner=Cards(segmenter=FixedSize(8))), 4),
        (Calibrate(inner=Cards(segmenter=Entropy(threshold=1.0))), 4),
    )
    assert found == ["Calibrate(Cards) FixedSize", "Calibrate(Cards) Entropy"]


@pytest.mark.parametrize(
    ("strategy", "law", "draws"),
    [
        (BestOf(n=4), AnswerLaw.BEST_OF, 4),
        (BestOf(n=4, select=VOTE), AnswerLaw.POOL, 4),
        (BestOf(n=4, inner=Cards(segmenter=FixedSize(8))), AnswerLaw.UNKNOWN, 0),
        (BestOf(n=4, inner=BestOf(n=2)), AnswerLaw.UNKNOWN, 0),
        (EarlyStop(n=4, select=VOTE), AnswerLaw.POOL, 0),
        (Plain(), AnswerLaw.POLICY, 1),
        (Calibrate(inner=Cards(segmenter=FixedSize(8))), AnswerLaw.REJECTION_GIVEN_TARGET, 0),
        (Cards(segmenter=FixedSize(8)), AnswerLaw.REJECTION, 0),
        (QAlign(beta=1.0, steps=4, chains=3), AnswerLaw.CHAIN_STATE, 3),
        (QAlign(beta=1.0, steps=4, pool=8, answer=VOTE), AnswerLaw.CHAIN_ELECTION, 8),
        (QAlign(beta=1.0, steps=4, tempering=(2.0, 4.0)), AnswerLaw.CHAIN_STATE, 3),
        (object(), AnswerLaw.UNKNOWN, 0),
    ],
)
def test_strategies_declare_the_law_of_their_answers(strategy, law, draws):
    assert (answer_law(strategy), independent_draws(strategy)) == (law, draws)
