"""Selectors and their parts by name, as ``--set`` gives them."""

from dataclasses import dataclass

import pytest

from rsalign import BestOf, ConfigError, Plain
from rsalign.cli.main import main
from rsalign.selectors import (
    Hard,
    Knockout,
    MajorityVote,
    MinimumBayesRisk,
    Soft,
    TopFraction,
)
from rsalign.selectors.extraction import EXTRACTORS, AfterMarker, Boxed, LastNumber
from rsalign.selectors.utilities import ExactMatch, Rouge1
from rsalign.words.build import build_strategy
from rsalign.words.read import split


@dataclass(frozen=True)
class Judge:
    bias: float = 0.0

    async def prefer(self, prompt, one, other):
        return 0.5 + self.bias


class NotAJudge:
    pass


def last_word(text):
    return text.split()[-1] if text.split() else None


def best_of(*settings):
    return build_strategy("best_of", dict(split(settings, "--set")))


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        (["n=8"], BestOf(n=8)),
        (["select=hard", "n=8"], BestOf(n=8, select=Hard())),
        (["select=soft", "select.temperature=0.5"], BestOf(select=Soft(temperature=0.5))),
        (["select=top_fraction", "select.m=4"], BestOf(select=TopFraction(m=4))),
        (
            ["n=8", "select=majority_vote", "select.extract=last_number"],
            BestOf(n=8, select=MajorityVote(extract=LastNumber())),
        ),
        (
            [
                "select=majority_vote",
                "select.ties=first",
                "select.extract=after_marker",
                "select.extract.marker=Answer:",
            ],
            BestOf(select=MajorityVote(extract=AfterMarker("Answer:"), ties="first")),
        ),
        (  # not the strategy of that name
            [
                "select=majority_vote",
                "select.extract=after_marker",
                "select.extract.marker=plain",
            ],
            BestOf(select=MajorityVote(extract=AfterMarker("plain"))),
        ),
        (
            ["select=minimum_bayes_risk", "select.utility=rouge_1", "inner.max_tokens=9"],
            BestOf(inner=Plain(max_tokens=9), select=MinimumBayesRisk(utility=Rouge1())),
        ),
        (
            [
                "select=minimum_bayes_risk",
                "select.utility=exact_match",
                "select.utility.extract=boxed",
            ],
            BestOf(select=MinimumBayesRisk(utility=ExactMatch(Boxed()))),
        ),
        (
            ["inner=best_of", "inner.select=soft", "inner.select.temperature=2"],
            BestOf(inner=BestOf(select=Soft(temperature=2))),
        ),
        (
            ["select=rsalign.selectors.by_reward:Soft", "select.temperature=2"],
            BestOf(select=Soft(temperature=2)),
        ),
    ],
)
def test_by_name(settings, strategy):
    assert best_of(*settings) == strategy


def test_your_own():
    own = best_of("select=majority_vote", f"select.extract={__name__}:last_word")
    assert own.select.extract("so 3") == "3"
    judged = best_of("select=knockout", f"select.judge={__name__}:Judge", "select.judge.bias=0.1")
    assert judged == BestOf(select=Knockout(judge=Judge(0.1)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["select=majority"], "did you mean 'majority_vote'"),
        (["select=majority_vote"], "'extract'"),
        (["select=majority_vote", "select.extract=lastnumber"], "did you mean 'last_number'"),
        (["select=majority_vote", "select.extrat=boxed"], "did you mean 'extract'"),
        (["select=majority_vote", "select.extract.marker=x"], "name the extractor"),
        (["select=minimum_bayes_risk", "select.utility=rouge"], "did you mean 'rouge_1'"),
        (["select.temperature=1"], "selector hard has no parameter 'temperature' .there are none"),
        (["select=3"], "select=3: name the selector"),
        (["select=soft", "select.temperature=0"], "above 0"),
        (["select=knockout", "select.judge=pairwise_judg"], "no judge is called 'pairwise_judg'"),
        (["select=knockout", f"select.judge={__name__}:NotAJudge"], "a dataclass with `prefer`"),
        (["select=knockout", "select.judge=no.such:Judge"], "cannot load judge"),
        (["select=majority_vote", "select.extract=math:pi"], "or a function"),
        (
            [
                "select=majority_vote",
                f"select.extract={__name__}:last_word",
                "select.extract.marker=x",
            ],
            "is a function, which has no parameter 'marker'",
        ),
    ],
)
def test_wrong_settings(settings, says, capsys):
    with pytest.raises(ConfigError, match=says):
        best_of(*settings)
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    assert main(["generate", *arguments]) == 2
    assert capsys.readouterr().err.startswith("rsalign: ")


@pytest.mark.parametrize("name", EXTRACTORS)
def test_every_extractor_has_a_name_that_works(name):
    settings = ["select=majority_vote", f"select.extract={name}"]
    if name == "after_marker":
        settings.append("select.extract.marker=Answer:")
    assert isinstance(best_of(*settings).select.extract, EXTRACTORS[name])
