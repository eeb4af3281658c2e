"""Strategies that requests choose by flat parameters; nothing is imported for them."""

from dataclasses import dataclass, field

import pytest

from rsalign import BestOf, Cards, ConfigError, FixedSize, Line, Plain
from rsalign.selectors import Hard, Soft
from rsalign.words.read import read_flat
from rsalign.words.request import refuse_others, requested, without_strategy

CARDS = Cards(segmenter=FixedSize(8), threshold=Line(target=2.0), max_tries=5)


@dataclass(frozen=True)
class Mine:
    draws: int = 1
    inner: Plain = field(default_factory=Plain)

    async def sample(self, prompt, run):
        raise NotImplementedError


def strategy_of(asked):
    refuse_others(asked)
    return requested(read_flat(asked), BestOf())


@pytest.mark.parametrize(
    ("asked", "default", "strategy"),
    [
        (None, CARDS, CARDS),
        ({}, BestOf(n=9), BestOf(n=9)),
        ({"rsalign": "none"}, CARDS, None),
        ({"rsalign": "none", "other": 1}, CARDS, None),
        ({"rsalign": "plain"}, CARDS, Plain()),
        ({"rsalign": "best_of", "rsalign_n": 8}, CARDS, BestOf(n=8)),
        ({"rsalign": "best_of"}, BestOf(n=9), BestOf(n=9)),
        ({"rsalign_n": 2}, BestOf(n=9, select=Hard()), BestOf(n=2, select=Hard())),
        ({"rsalign_n": "2"}, BestOf(), BestOf(n=2)),
        ({"rsalign_inner.measured": "true"}, BestOf(n=9), BestOf(n=9, inner=Plain(measured=True))),
        (
            {"rsalign_inner": "best_of", "rsalign_inner.n": 3},
            BestOf(n=9),
            BestOf(n=9, inner=BestOf(n=3)),
        ),
        (
            {"rsalign_select": "soft", "rsalign_select.temperature": 1},
            BestOf(),
            BestOf(select=Soft(temperature=1)),
        ),
        (
            {"rsalign_select.temperature": 2},
            BestOf(n=3, select=Soft(temperature=1)),
            BestOf(n=3, select=Soft(temperature=2)),
        ),
        (
            {"rsalign": "cards", "rsalign_threshold.target": 3.5, "rsalign_proposals": 2},
            CARDS,
            Cards(segmenter=FixedSize(8), threshold=Line(target=3.5), max_tries=5, proposals=2),
        ),
        (
            {"rsalign_draws": 4, "rsalign_inner.measured": True},
            Mine(),
            Mine(4, Plain(measured=True)),
        ),
    ],
)
def test_by_name_and_parameters(asked, default, strategy):
    assert requested(read_flat(asked), default) == strategy


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rsalign": "best"}, "did you mean 'best_of'"),
        ({"rsalign": 3}, "give a strategy's name"),
        ({"rsalign": ""}, "no strategy is called ''"),
        ({"rsalign": "rsalign:BestOf"}, "no strategy is called 'rsalign:BestOf'"),
        ({"rsalign": "cards"}, "segmenter"),
        ({"rsalign_m": 3}, r"no parameter 'm'.*known: inner, n, select"),
        ({"rsalign_n": "many"}, "must be of type int"),
        ({"rsalign_n": 2.5}, "must be of type int"),
        ({"rsalign_n": True}, "must be of type int"),
        ({"rsalign_n": None}, "must be of type int"),
        ({"rsalign_n": 0}, "of at least 1"),
        ({"rsalign_n.k": 0}, "no parameter 'k'"),
        ({"rsalign_inner": "x"}, "no strategy is called 'x'"),
        ({"rsalign_inner": "os:getcwd"}, "no strategy is called 'os:getcwd'"),
        ({"rsalign_select": "os:getcwd"}, "no selector is called 'os:getcwd'"),
        ({"rsalign_select": "majority_vote", "rsalign_select.extract": "os:getcwd"}, "extractor"),
        ({"rsalign_inner.max_tokens": 9}, "bounded as a whole; give max_tokens"),
        ({"rsalign_max_tokens": 0}, "at least 1"),
        ({"rsalign": "none", "rsalign_n": 3}, "'n' is given, but rsalign='none' asks for"),
        ({"n": 3}, "extra_args has 'n'"),
        ({"rsalign": "plain", "top_w": 3}, "extra_args has 'top_w'"),
    ],
)
def test_what_is_wrong_is_said(asked, says):
    with pytest.raises(ConfigError, match=says):
        strategy_of(asked)


def test_what_is_left_for_the_engine():
    assert without_strategy(None) is None
    assert without_strategy({"rsalign": "none"}) is None
    assert without_strategy({"rsalign": "none", "seed_bank": 3}) == {"seed_bank": 3}
