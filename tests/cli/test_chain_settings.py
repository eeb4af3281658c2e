"""Every part of a chain by name, as ``--set`` gives them."""

import json
import math
from dataclasses import dataclass

import pytest

from rsalign import ConfigError, Entropy, FixedSize, QAlign
from rsalign.chains.beta_rules import BETA_RULES, TargetKL, TargetSampleSize
from rsalign.chains.cuts import CUTS, BlockCuts, EntropyCuts, FixedCuts, SegmentCuts, UniformCuts
from rsalign.chains.stopping import STOPPING, DecidedLead, EffectiveSamples
from rsalign.cli.main import main
from rsalign.core.capabilities import describe_part
from rsalign.selectors import Hard, Last, MajorityVote, MinimumBayesRisk
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.utilities import Rouge1
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.words.build import build_strategy
from rsalign.words.read import split

VOTE = MajorityVote(extract=LastNumber())


@dataclass(frozen=True)
class MyCuts:
    power: int = 1
    needs_entropy = False
    fixed = False

    def weights(self, positions):
        for position in positions:
            yield 1.0 + self.power * position.index


@dataclass(frozen=True)
class MyBeta:
    def beta(self, rewards):
        return max(rewards) - min(rewards) + 1


def qalign(settings):
    return build_strategy("qalign", dict(split(settings.split(), "--set")))


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ("steps=50 beta=0.3 chains=4", QAlign(steps=50, beta=0.3, chains=4)),
        ("cuts=uniform answer=last", QAlign(cuts=UniformCuts(), answer=Last())),
        ("cuts=entropy cuts.power=2", QAlign(cuts=EntropyCuts(power=2))),
        ("cuts=blocks cuts.size=16", QAlign(cuts=BlockCuts(size=16))),
        ("cuts=fixed cuts.decay=0.5", QAlign(cuts=FixedCuts(decay=0.5))),
        (
            "cuts=segments cuts.segmenter=entropy cuts.segmenter.threshold=1.5",
            QAlign(cuts=SegmentCuts(segmenter=Entropy(1.5))),
        ),
        (
            "cuts=segments cuts.segmenter.n=4",
            QAlign(cuts=SegmentCuts(segmenter=FixedSize(4))),
        ),
        (
            "restart=0.1 candidates=4 combine=i_sir",
            QAlign(restart=0.1, candidates=4, combine="i_sir"),
        ),
        ("tempering=2,4,inf", QAlign(tempering=(2.0, 4.0, math.inf))),
        ("tempering=2", QAlign(tempering=(2.0,))),
        ("tempering=(2,4)", QAlign(tempering=(2.0, 4.0))),
        ("beta=target_kl beta.nats=1 pool=16", QAlign(beta=TargetKL(nats=1), pool=16)),
        (
            "beta=target_sample_size beta.share=0.5 pool=8",
            QAlign(beta=TargetSampleSize(share=0.5), pool=8),
        ),
        (
            "answer=majority_vote answer.extract=last_number stopping=decided_lead",
            QAlign(answer=VOTE, stopping=DecidedLead()),
        ),
        (
            "stopping=effective_samples stopping.at_least=30 stopping.every=2",
            QAlign(stopping=EffectiveSamples(at_least=30, every=2)),
        ),
        ("stopping=None pool=None", QAlign()),
        (
            "answer=minimum_bayes_risk answer.utility=rouge_1",
            QAlign(answer=MinimumBayesRisk(utility=Rouge1())),
        ),
        (
            "answer=hard burn_in=3 recycle=False truncated=excluded",
            QAlign(answer=Hard(), burn_in=3, recycle=False, truncated="excluded"),
        ),
        (f"cuts={__name__}:MyCuts cuts.power=2", QAlign(cuts=MyCuts(2))),
        (f"beta={__name__}:MyBeta pool=2", QAlign(beta=MyBeta(), pool=2)),
    ],
)
def test_by_name(settings, strategy):
    assert qalign(settings) == strategy


def test_siblings_and_inner_chains():
    assert build_strategy("quest", {"beta": 2, "cuts": "entropy"}) == Quest(
        beta=2, cuts=EntropyCuts()
    )
    # where beta is a plain number, it names nothing
    assert build_strategy("rejection", {"beta": 2, "bound": 1}) == Rejection(beta=2, bound=1)
    nested = build_strategy(
        "best_of", dict(split(["inner=qalign", "inner.tempering=2,3"], "--set"))
    )
    assert nested.inner == QAlign(tempering=(2.0, 3.0))


def test_what_is_not_set_is_as_in_the_default():
    default = QAlign(beta=TargetKL(nats=0.5), pool=8, cuts=EntropyCuts(power=2))
    changed = build_strategy(
        None, {"beta.nats": 0.8, "cuts.floor": 0.5, "tempering": [2, 4]}, default=default
    )
    assert changed == QAlign(
        beta=TargetKL(nats=0.8), pool=8, cuts=EntropyCuts(power=2, floor=0.5), tempering=(2, 4)
    )
    plain = build_strategy(None, {"beta": 0.5}, default=default)
    assert plain.beta == 0.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("cuts=uniforn", "no cut law is called 'uniforn'; did you mean 'uniform'"),
        ("cuts=3", "cuts=3: name the cut law"),
        ("cuts.power=2", "cut law uniform has no parameter 'power'"),
        ("beta=kl", "no rule for beta is called 'kl'"),
        ("beta=0.5 beta.nats=1", "beta=0.5: name the rule for beta"),
        ("beta.nats=1", "no beta= is given: name the rule for beta"),
        ("beta=True", "beta=True"),
        ("beta=target_kl beta.nats=1", "give pool=16"),
        ("beta=-1", "a finite number above 0"),
        ("stopping.error=0.1", "no stopping= is given"),
        ("stopping=decided_lead", "extracts no answers"),
        ("stopping=effective_samples", "'at_least'"),
        ("tempering=2,x", "tempering='2,x': give numbers, such as 2,4,inf"),
        ("tempering=4,2", "factors in ascending order"),
        ("answer=vote", "no selector is called 'vote'"),
        ("combine=multi-try", "'multi_try' or 'i_sir'"),
        ("step=3", "did you mean 'steps'"),
        (f"cuts={__name__}:MyBeta", "give a dataclass with `weights`"),
    ],
)
def test_wrong_chain_settings(settings, says, capsys):
    with pytest.raises(ConfigError, match=says):
        qalign(settings)
    arguments = [argument for setting in settings.split() for argument in ("--set", setting)]
    assert main(["generate", "--strategy", "qalign", *arguments]) == 2
    assert capsys.readouterr().err.startswith("rsalign: ")


@pytest.mark.parametrize(("known", "part"), [(CUTS, "cuts"), (STOPPING, "stopping")])
def test_every_name_works(known, part):
    needs = {
        "segments": "cuts.segmenter.n=3",
        "effective_samples": "stopping.at_least=9",
        "decided_lead": "answer=majority_vote answer.extract=boxed",
    }
    for name, kind in known.items():
        assert isinstance(getattr(qalign(f"{part}={name} {needs.get(name, '')}"), part), kind)
    assert set(BETA_RULES) == {"target_kl", "target_sample_size"}


def test_settings_are_json():
    """An infinite factor is no number of JSON, which other readers would refuse."""
    record = json.dumps(describe_part(qalign("tempering=2,inf")), allow_nan=False)
    assert json.loads(record)["tempering"] == [2.0, "inf"]
