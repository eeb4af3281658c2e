"""Every setting of every part is judged alike: refused with one form of message, or plainly right.

Classes and fields are discovered, so that a new strategy, selector or task is covered as soon as it
is registered. What a field may be is stated once more below, in `ALLOWED`, apart from the code: a
numeric field that is missing there fails.
"""

import dataclasses
import importlib
import math
import pickle
import pkgutil
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import rsalign.rewards
from eval.distributed.spread import Spread
from eval.graders.reward import BeatsReference, ByReward
from eval.tasks.protocol import Grade
from eval.tasks.registry import TASKS
from rsalign import Budget, Cards, ConfigError, Constraint, FixedSize, Key, Plain, Without
from rsalign.allocation import ALLOCATION_RULES
from rsalign.chains.beta_rules import BETA_RULES
from rsalign.chains.cuts import CUTS
from rsalign.chains.stopping import LEADS, STOPPING
from rsalign.core.capabilities import part_settings
from rsalign.core.checks import at_least
from rsalign.core.protocols import (
    Boundary,
    Likelihood,
    PairwiseReward,
    Reward,
    StepReward,
    Strategy,
)
from rsalign.core.types import Sampling
from rsalign.populations import MOVES, RESAMPLINGS, TWISTS
from rsalign.rewards.calibration import calibrated_on
from rsalign.rewards.combine import WeightedSum
from rsalign.rewards.function import FunctionReward
from rsalign.rewards.judge_verdicts import Weigher, Writer
from rsalign.rewards.wrappers import Cached
from rsalign.segments import Entropy, LowConfidence, Punctuation
from rsalign.segments.acceptance import ACCEPTANCES
from rsalign.segments.thresholds import THRESHOLDS
from rsalign.selectors import SELECTORS, MajorityVote, Selector
from rsalign.selectors.extraction import EXTRACTORS, Extract, LastNumber
from rsalign.selectors.utilities import UTILITIES, UnigramF1, Utility
from rsalign.serve.options import Options
from rsalign.strategies import STRATEGIES
from rsalign.testing import ToyPolicy, ToyReward

INF, NAN = math.inf, math.nan


class Judge:
    async def prefer(self, prompt, one, other):
        return 0.5


class StepJudge:
    async def score_steps(self, prompt, response, ends):
        return (0.5,) * len(ends)


class Model(ToyPolicy):
    """It can be asked in words, and tells likelihoods."""

    def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
        return (1,)


def parts_of(package):
    """All dataclasses of settings in a package, but for those that need a running engine."""
    for module in pkgutil.iter_modules(package.__path__):
        for found in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            if not (isinstance(found, type) and is_dataclass(found)):
                continue
            own = found.__module__.startswith(package.__name__) and found.__name__[0] != "_"
            kinds = {getattr(kind, "__name__", "") for kind in hints(found).values()}
            if own and "__post_init__" in vars(found) and not kinds & {"VllmEngine", "Replicas"}:
                yield found


def hints(cls):
    return {
        name: kind
        for name, kind in typing.get_type_hints(cls).items()
        if name in {field.name for field in fields(cls) if field.init}
    }


REGISTRIES = (
    ALLOCATION_RULES,
    LEADS,
    STRATEGIES,
    SELECTORS,
    CUTS,
    STOPPING,
    BETA_RULES,
    THRESHOLDS,
    ACCEPTANCES,
    EXTRACTORS,
    UTILITIES,
    RESAMPLINGS,
    TWISTS,
    MOVES,
    TASKS,
)
ALONE = (Budget, Sampling, Entropy, FixedSize, Punctuation, Options, Spread, Grade)
ALONE += (ByReward, BeatsReference, LowConfidence)
# what they need is a tokenizer
TOKENIZING = ("Rendering", "StepReader", "ImplicitStepReward")
CLASSES = sorted(
    {*(made for known in REGISTRIES for made in known.values()), *ALONE}
    | {found for found in parts_of(rsalign.rewards) if not found.__name__.endswith(TOKENIZING)},
    key=lambda cls: (cls.__name__, cls.__module__),
)


def decode(tokens):
    return " ".join(map(str, tokens))


REWARDS = (ToyReward(), ToyReward(salt=1))
EXAMPLES = {
    int: 4,
    float: 0.5,
    str: "Answer:",
    bool: True,
    Strategy: Plain(),
    Selector: MajorityVote(extract=LastNumber()),
    Boundary: FixedSize(4),
    Extract: LastNumber(),
    Utility: UnigramF1(),
    PairwiseReward: Judge(),
    Cards: Cards(segmenter=FixedSize(4)),
    Reward: ToyReward(),
    StepReward: StepJudge(),
    Likelihood: ToyPolicy(),
    Writer: Model(),
    Weigher: Model(),
    Writer | Weigher: Model(),
    Reward | PairwiseReward: ToyReward(),
    Reward | None: ToyReward(),
    Constraint: Without("no"),
    Sequence[Reward]: REWARDS,
    Sequence[float]: (0.5, 1.0),
    Callable[[tuple[int, ...]], str]: decode,
}
"""A value of each type that a required field may have."""
SPECIAL = {
    "Without.texts": ("no",),
    "Template.user": "{response}",
    "Template.choices": ("Yes", "No"),
    "Routed.routes": (),
    "PointwiseJudge.template": rsalign.rewards.judge_templates.Template(
        user="{response}", pattern=r"(\d+)"
    ),
    "Grade.score": 0.5,
    "TopFraction.m": 2.0,
}
"""Fields that take something else."""


def arguments(cls):
    """Of a valid instance: what must be given, and what has a default."""
    given = {}
    for field in fields(cls):
        if not field.init:
            continue
        special = SPECIAL.get(f"{cls.__name__}.{field.name}", MISSING)
        if special is not MISSING:
            given[field.name] = special
        elif field.default is not MISSING:
            given[field.name] = field.default
        elif field.default_factory is not MISSING:
            given[field.name] = field.default_factory()
        else:
            given[field.name] = EXAMPLES[hints(cls)[field.name]]
    return given


def inside(kind):
    """A type and all types that it is made of."""
    yield kind
    for each in typing.get_args(kind):
        yield from inside(each)


def is_numeric(kind):
    is_mapping = "Mapping" in str(typing.get_origin(kind))
    return not callable_(kind) and not is_mapping and bool({int, float} & set(inside(kind)))


def callable_(kind):
    return typing.get_origin(kind) is not None and "Callable" in str(kind)


NUMERIC = [
    (cls, name)
    for cls in CLASSES
    for name, kind in hints(cls).items()
    if is_numeric(kind) and name != "label"  # read by `LabelChoice.of`: tests/rewards
]
PARTS = (Strategy, Selector, Boundary, Utility, PairwiseReward, Cards, Reward, StepReward)
PARTS += (Likelihood, Writer, Weigher)


def is_part(kind):
    protocol = any(getattr(each, "_is_protocol", False) or each is Cards for each in inside(kind))
    return protocol or callable_(kind)


PART_FIELDS = [
    (cls, name)
    for cls in CLASSES
    for name, kind in hints(cls).items()
    if is_part(kind) and typing.get_origin(kind) is not Sequence
]


# what each numeric field may be, in words of its own


def whole(low=None, high=None, *others):
    def allows(value):
        if any(value is other for other in others):
            return True
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
            return False
        return (low is None or value >= low) and value < 2**63 and (high is None or value <= high)

    return allows


def real(low, high, *others, open_low=False, open_high=False):
    def allows(value):
        if any(value is other for other in others):
            return True
        if isinstance(value, bool | np.bool_) or not isinstance(
            value, int | float | np.floating | np.integer | Decimal | Fraction
        ):
            return False
        try:
            value = float(value)
        except (OverflowError, ValueError):
            return False
        above = value > low if open_low else value >= low
        return above and (value < high if open_high else value <= high) and math.isfinite(value)

    return allows


def items(allows):
    def all_allowed(value):
        if isinstance(value, np.ndarray):
            value = value.tolist()
        return isinstance(value, list | tuple | range) and all(map(allows, value))

    return all_allowed


count, size = whole(1), whole(0)
finite, positive = real(-INF, INF), real(0, INF, open_low=True)
share, probability = real(0, 1, open_low=True), real(0, 1)
between = real(0, 1, open_low=True, open_high=True)
limit = whole(1, None, None)
MOST = 2**31 - 1
ALLOWED = {
    "BetaLead.confidence": between,
    "ByAcceptance.alpha": real(0, INF),
    "ByAcceptance.b": probability,
    "ByAcceptance.threshold": finite,
    "DirichletLead.confidence": between,
    "Unsolved.threshold": finite,
    "Allocated.at_least": count,
    "Allocated.batch": limit,
    "Allocated.total": limit,
    "*.max_tokens": count,
    "*.limit": limit,
    "*.votes": count,
    "*.seed": lambda v: whole()(v) or (isinstance(v, int) and v.bit_length() < 4096 and v > 1),
    "*.num_shots": whole(0, 8),
    "Arithmetic.start": size,
    "Arithmetic.limit": count,
    "ArithmeticSampling.n": whole(1, 1 << 16),
    "Beam.branch": count,
    "Beam.width": count,
    "BestOf.n": count,
    "BestOfMajority.share": share,
    "BlockCuts.size": count,
    "BradleyTerry.reference": finite,
    "Budget.completion_tokens": size,
    "Budget.policy_tokens": limit,
    "Budget.reward_calls": limit,
    "Budget.seconds": real(0, INF, None, open_low=True),
    "ByReward.threshold": finite,
    "Calibrate.draws": count,
    "Calibrate.num_sds": real(-INF, INF, None),
    "Calibrate.quantile": share,
    "Capped.cap": finite,
    "Cards.hopeless_below": probability,
    "Cards.max_tries": count,
    "Cards.proposals": count,
    "Cautious.high": real(0.01, INF, open_low=True),
    "Cautious.low": real(0, 1.5, open_high=True),
    "Cautious.most_trials": count,
    "Cautious.trial_tokens": whole(1, MOST),
    "ChiSquaredPessimism.beta": positive,
    "ChiSquaredPessimism.reward_max": real(-INF, INF, None),
    "Chunks.ahead": count,
    "Chunks.log_bound": finite,
    "Chunks.max_tries": count,
    "Chunks.weights": lambda value: items(finite)(value) and len(value) == 1,
    "Chunks.window": count,
    "ClippedSteps.eta": finite,
    "Conformal.alpha": lambda value: probability(value) and (value == 0 or 0.1 <= value < 1),
    "Conformal.draws": count,
    "Conformal.scores": items(
        lambda value: finite(value) or (isinstance(value, float) and value == -INF)
    ),
    "Constant.value": finite,
    "CostBudget.limit": finite,
    "DecidedLead.error": between,
    "DecidedLead.every": count,
    "DeepConf.keep": share,
    "DeepConf.n": whole(4),
    "DeepConf.warm_up": whole(1, 16),
    "DeepConf.window": whole(1, MOST),
    "DensityRatio.beta": positive,
    "Direction.direction": lambda value: isinstance(value, np.ndarray),  # of two entries
    "Distinct.max_draws": whole(8, 256),
    "Distinct.n": whole(1, 16),
    "Dvts.branch": count,
    "Dvts.subtrees": count,
    "EarlyDrop.first": whole(1, MOST),
    "EarlyDrop.growth": real(1, 1e6, open_low=True),
    "EarlyDrop.keep": share,
    "EarlyDrop.n": count,
    "EarlyStop.at_least": count,
    "EarlyStop.batch": count,
    "EarlyStop.n": count,
    "EarlyStop.share": share,
    "EffectiveSamples.at_least": positive,
    "EffectiveSamples.every": count,
    "Entropy.max_tokens": whole(4, MOST),
    "Entropy.min_tokens": whole(1, 64),
    "Entropy.threshold": real(-MOST, MOST),
    "EntropyCuts.floor": real(0, 1e200, open_low=True),
    "EntropyCuts.power": real(0, 200),
    "FixedCuts.decay": share,
    "FixedSize.n": whole(1, MOST),
    "Grade.score": real(0, 1, None),
    "Gsi.beta": positive,
    "Gsi.n": count,
    "Line.prompt_weight": probability,
    "Line.target": finite,
    "LookAhead.horizon": whole(1, MOST, None),
    "LookAhead.rollouts": count,
    "LowConfidence.below": real(-MOST, 0),
    "LowConfidence.max_tokens": whole(32, MOST),
    "LowConfidence.window": whole(1, MOST),
    "LowerConfidenceBound.coefficient": real(0, INF),
    "MinimumBayesRisk.temperature": real(0, INF, None, open_low=True),
    "Options.drain_seconds": real(0, INF),
    "Options.keep_alive_seconds": positive,
    "Options.max_concurrent_requests": limit,
    "Options.max_open_draws": limit,
    "Options.max_open_draws_beside": limit,
    "Options.max_policy_tokens": limit,
    "Options.max_reward_calls": limit,
    "Options.max_seconds": real(0, INF, None, open_low=True),
    "Options.max_strategy_size": count,
    "Options.max_wait_seconds": real(0, INF),
    "Options.max_waiting_requests": size,
    "Options.reward_timeout_seconds": real(0, INF, None, open_low=True),
    "Options.wait_for_reward_seconds": real(0, INF),
    "PartialReward.scale": real(0, INF),
    "ParticleGibbs.ess_threshold": probability,
    "ParticleGibbs.n": whole(2),
    "ParticleGibbs.share": share,
    "Particles.beta": positive,
    "Particles.ess_threshold": probability,
    "Particles.n": count,
    "Particles.rejuvenate": size,
    "Power.alpha": real(0, INF),
    "PrioritySampling.alternatives": whole(2),
    "PrioritySampling.n": count,
    "Punctuation.max_tokens": whole(4, MOST),
    "Punctuation.min_entropy": real(-MOST, MOST),
    "Punctuation.min_tokens": whole(1, 64),
    "Rejection.at_once": count,
    "Rejection.beta": positive,
    "Rejection.bound": finite,
    "Rejection.max_draws": count,
    "RewardWeightedVote.temperature": positive,
    "Rsd.max_tries": count,
    "Sampling.allowed_token_ids": items(size),
    "StepLayout.beta": positive,
    "Template.scale": lambda value: value is None,  # the example has choices
    "Template.values": lambda value: items(finite)(value) and len(value) in (0, 2),
    "Sampling.guidance": items(finite),
    "Sampling.logit_bias": items(lambda item: False),
    "Sampling.min_p": probability,
    "Sampling.min_tokens": size,
    "Sampling.presence_penalty": real(-2, 2),
    "Sampling.frequency_penalty": real(-2, 2),
    "Sampling.thinking_token_budget": lambda v: v is None or size(v),
    "Sampling.repetition_penalty": positive,
    "Sampling.stop_token_ids": items(size),
    "Sampling.temperature": real(0, INF),
    "Sampling.top_k": whole(-1),
    "Sampling.top_p": share,
    "Scaled.scale": finite,
    "Scaled.shift": finite,
    "SelfCertainty.power": real(0, INF),
    "Sentiment.num_words": count,
    "SoftAcceptance.beta": positive,
    "Soft.temperature": positive,
    "Spread.batch_size": count,
    "Spread.batches_at_once": count,
    "Spread.cpus_per_worker": real(0, INF),
    "Spread.gpus_per_worker": real(0, INF),
    "Spread.workers": count,
    "Speculate.max_tries": count,
    "StatisticalRejection.beta": positive,
    "Steps.empty": finite,
    "StochasticBeam.alternatives": count,
    "StochasticBeam.width": count,
    "TargetKL.nats": positive,
    "TargetSampleSize.share": between,
    "TopFraction.m": real(1, INF),
    "TreeSearch.branch": count,
    "TreeSearch.exploration": real(0, INF),
    "TreeSearch.rollout_weight": probability,
    "TreeSearch.rollouts": count,
    "TreeSearch.rounds": count,
    "WeightedSum.weights": lambda value: isinstance(value, np.ndarray),
}
for chain in ("QAlign", "Quest", "Power"):
    ALLOWED |= {
        f"{chain}.beta": positive,
        f"{chain}.burn_in": whole(0, 32),
        f"{chain}.candidates": count,
        f"{chain}.chains": count,
        f"{chain}.pool": whole(2, None, None),
        f"{chain}.restart": probability,
        f"{chain}.steps": count,
        f"{chain}.tempering": lambda value: items(real(1, INF, open_low=True))(value),
    }
CONTRADICTED = {
    "DeepConf.n": "warm_up",
    "LowConfidence.max_tokens": "window",
    "Cautious.low": "high",
    "Entropy.max_tokens": "min_tokens",
    "Punctuation.max_tokens": "min_tokens",
}
"""Where an error may name the other one of two settings."""
GIVEN = [
    *(-1, 0, 1, 7, 0.5, 2.5, -0.0, 5e-324, 1e300, -1e300, INF, -INF, NAN),
    *(10**19, 10**400, -(10**400), 10**5000, True, False, None, "8", "", b"1", "auto!"),
    *([], (), [1], {}, {1}, 1 + 0j, Decimal("0.5"), Decimal("NaN"), Decimal("sNaN")),
    *(Fraction(1, 2), object(), int, FixedSize, len, Plain(), range(3, 1)),
    *(np.int64(7), np.uint8(1), np.float32(0.7), np.float64(NAN), np.float16(INF)),
    *(np.bool_(True), np.array([1, 2]), np.str_("8"), np.datetime64("2020-01-01")),
]


def label(value):
    try:
        return f"{type(value).__name__}-{value!r}"[:30]
    except ValueError:
        return f"{type(value).__name__}-huge"


def allowed(cls, name):
    for key in (f"{cls.__name__}.{name}", f"*.{name}"):
        if key in ALLOWED:
            return ALLOWED[key]
    raise AssertionError(f"say in ALLOWED what {cls.__name__}({name}=...) takes")


def is_plain(value):
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (int, float, str, bool)


@pytest.mark.parametrize(("cls", "name"), NUMERIC, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_number_is_taken_as_it_is_or_refused_in_one_form(cls, name):
    made = cls(**arguments(cls))
    allows = allowed(cls, name)
    for value in GIVEN:
        if not allows(value):
            with pytest.raises(ConfigError) as refused:
                pytest.fail(f"{label(value)} is taken: {replace(made, **{name: value})}")
            said = str(refused.value)
            named = CONTRADICTED.get(f"{cls.__name__}.{name}", name)
            assert re.match(rf"{cls.__name__}\(({name}|{named})=.*\): give ", said)
            assert len(said) < 400
            assert "\n" not in said
            continue
        kept = getattr(replace(made, **{name: value}), name)
        assert is_plain(kept), f"{label(value)} is kept as {type(kept)}"
        if not isinstance(value, list | tuple | range | np.ndarray):
            assert kept == (float(value) if type(kept) is float else value)


@pytest.mark.parametrize("cls", CLASSES)
def test_numbers_of_numpy_make_an_equal_object(cls):
    given = arguments(cls)
    kinds = {int: np.int64, float: np.float64, bool: np.bool_, str: np.str_}

    def foreign(value):
        if isinstance(value, tuple):
            return tuple(map(foreign, value))
        return kinds.get(type(value), lambda same: same)(value)

    made, same = cls(**given), cls(**{name: foreign(value) for name, value in given.items()})
    assert same == made
    assert repr(same) == repr(made)
    for name in hints(cls):
        assert type(getattr(same, name)) is type(getattr(made, name)), name


@pytest.mark.parametrize(("cls", "name"), PART_FIELDS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_what_is_not_the_part_is_refused(cls, name):
    made = cls(**arguments(cls))
    kind = hints(cls)[name]
    wrong = ["text", 3, object(), [], FixedSize]
    if type(getattr(made, name)).__module__ != "builtins":  # `function` is callable itself
        wrong.append(type(getattr(made, name)))
    if type(None) not in typing.get_args(kind):
        wrong.append(None)
    if is_numeric(kind):
        wrong.remove(3)
    if typing.get_origin(kind) is tuple:
        wrong.remove([])
    if name in part_settings(cls):
        wrong.remove("text")  # the name of a part of the run
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"{cls.__name__}\({name}=.*give ") as refused:
            replace(made, **{name: value})
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize("cls", CLASSES)
def test_text_choices_and_flags_are_what_they_are_declared_as(cls):
    made = cls(**arguments(cls))
    for name, kind in hints(cls).items():
        choices = typing.get_origin(kind) is typing.Literal
        if not choices and kind not in (str, bool, tuple[str, ...]):
            continue
        for value in (3, 0.5, object(), [3], {}, str, "no such choice", 1):
            if isinstance(value, str) and kind is str:
                continue
            with pytest.raises(ConfigError, match=rf"{cls.__name__}\({name}=.*give "):
                replace(made, **{name: value})


def test_every_class_is_looked_at():
    names = {cls.__name__ for cls in CLASSES}
    assert {"QAlign", "Soft", "Line", "WeightedSum", "PairwiseJudge", "Steps", "Gsm8k"} <= names
    assert len(CLASSES) > 60
    assert len(NUMERIC) > 100
    unused = [
        key
        for key in ALLOWED
        if not any(key in (f"{cls.__name__}.{name}", f"*.{name}") for cls, name in NUMERIC)
    ]
    assert unused == ["Power.beta"]


@pytest.mark.parametrize(
    ("make", "name", "allows"),
    [
        (lambda v: Cached(ToyReward(), max_size=v), "Cached(max_size=", count),
        (lambda v: FunctionReward(decode, num_workers=v), "FunctionReward(num_workers=", count),
        (
            lambda v: FunctionReward(decode, timeout_seconds=v),
            "FunctionReward(timeout_seconds=",
            real(0, INF, None, open_low=True),
        ),
        (Key, "Key(root=", ALLOWED["*.seed"]),
        (
            lambda v: calibrated_on(
                ToyReward(), (0.0, 1.0, 2.0, 3.0), method="temperature", ess_fraction=v
            ),
            "calibrated_on(ess_fraction=",
            real(0.25, 1, open_low=True, open_high=True),
        ),
    ],
)
def test_arguments_that_are_no_fields_are_judged_alike(make, name, allows):
    for value in GIVEN:
        if name == "Key(root=" and type(value) is int and abs(value) < 2**4095:
            assert make(value).root == value
            continue
        if allows(value):
            make(value)
            continue
        with pytest.raises(ConfigError) as refused:
            pytest.fail(f"{label(value)} is taken: {make(value)}")
        assert str(refused.value).startswith(name)


def test_lists_are_taken_for_tuples_and_named_where_one_item_is_wrong():
    assert Sampling(stop=["a"], guidance=np.array([0.5])) == Sampling(stop=("a",), guidance=(0.5,))
    assert WeightedSum(list(REWARDS), np.array([1, 2])) == WeightedSum(REWARDS, (1.0, 2.0))
    with pytest.raises(ConfigError, match=r"WeightedSum\(weights=.*item 1 is 'x'"):
        WeightedSum(REWARDS, (1.0, "x"))
    with pytest.raises(ConfigError, match=r"Sampling\(stop='abc'\): give a tuple"):
        Sampling(stop="abc")


def test_settings_survive_pickling_and_are_hashed_by_value():
    for cls in (*STRATEGIES.values(), *SELECTORS.values()):
        if cls.__name__ == "Knockout":
            continue  # its judge is a local class
        made = cls(**arguments(cls))
        assert pickle.loads(pickle.dumps(made)) == made
        assert hash(made) == hash(cls(**arguments(cls)))


def test_a_class_of_the_callers_own_is_checked_too():
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Own(STRATEGIES["qalign"]):
        gamma: int = 3
        cap: float = math.inf

        def __post_init__(self):
            self.check(gamma=at_least(1))

    @dataclasses.dataclass(frozen=True)
    class Plainer(STRATEGIES["plain"]):
        cap: float = math.inf

    assert Plainer(max_tokens=np.int64(3)) == Plainer(max_tokens=3)
    with pytest.raises(ConfigError, match=r"Plainer\(max_tokens=0\)"):
        Plainer(max_tokens=0)
    with pytest.raises(ConfigError, match=r"Own\(gamma='x'\): give a whole number"):
        Own(gamma="x")
    with pytest.raises(ConfigError, match=r"Own\(steps=0\): give a whole number of at least 1"):
        Own(steps=0)
    assert isinstance(Own(gamma=np.int8(4)).gamma, int)
