"""Judges, process rewards, density ratios and combinations can be named at every door."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from eval import engines, overrides, resolvers
from eval.configuration import build
from rsalign import (
    Aligner,
    BestOf,
    Capped,
    ConfigError,
    DensityRatio,
    Knockout,
    PairwiseJudge,
    Plain,
    PointwiseJudge,
    Reward,
    Scaled,
    Steps,
    Template,
    WeightedSum,
)
from rsalign.cli import generate, main
from rsalign.harnesses.arguments import Arguments
from rsalign.rewards.steps import newline_ends
from rsalign.serve.options import Options
from rsalign.testing import ToyPolicy, ToyReward
from rsalign.words.build import build_strategy
from rsalign.words.parts import policy_from, reward_from, strategy_from
from rsalign.words.read import read_object
from rsalign.words.request import requested


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A module in the current directory, which is not on the path of imports."""
    shutil.copy(Path(__file__).with_name("own_parts.py"), tmp_path / "parts_here.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.delitem(sys.modules, "parts_here", raising=False)
    yield
    engines.close()


MODEL = "parts_here:Model"
NAMED = {
    "judge": (
        "pointwise_judge",
        {"policy": MODEL, "votes": "3", "template": "score", "template.system": "Judge."},
    ),
    "process reward": ("steps", {"reward": "parts_here:by_step", "aggregate": "min"}),
    "density ratio": (
        "density_ratio",
        {"numerator": MODEL, "denominator": "policy", "beta": "0.5"},
    ),
    "weighted sum": (
        "weighted_sum",
        {
            "rewards.0": "parts_here:toy_reward",
            "rewards.1": "scaled",
            "rewards.1.reward": "density_ratio",
            "rewards.1.reward.numerator": MODEL,
            "rewards.1.reward.denominator": MODEL,
            "rewards.1.scale": "3",
            "weights": "1,0.5",
        },
    ),
}


def check(kind, reward):
    reward = getattr(reward, "reward", reward) if kind != "process reward" else reward
    if kind == "judge":
        assert isinstance(reward, PointwiseJudge)
        assert (reward.votes, reward.template.system) == (3, "Judge.")
        assert "{response}" in reward.template.user
    elif kind == "process reward":
        assert isinstance(reward, Steps)
        assert reward.aggregate == "min"
        assert reward.decode((1, 2)) == ToyPolicy().text((1, 2))
    elif kind == "density ratio":
        assert isinstance(reward, DensityRatio)
        assert (type(reward.numerator).__name__, reward.beta) == ("Model", 0.5)
        assert type(reward.denominator) is ToyPolicy
    else:
        assert isinstance(reward, WeightedSum)
        assert reward.weights == (1.0, 0.5)
        scaled = reward.rewards[1]
        assert isinstance(scaled, Scaled)
        assert scaled.scale == 3.0
        assert scaled.reward.numerator is scaled.reward.denominator  # one engine for one name


def nested(name, settings):
    """Settings as one object, as JSON and YAML have it."""
    plain = {"name": name}
    for key, value in settings.items():
        *path, last = key.split(".")
        node = plain
        for part in path:
            if not isinstance(node.setdefault(part, {}), dict):
                node[part] = {"name": node[part]}
            node = node[part]
        node[last] = value
    return plain


def through_generate(name, settings, monkeypatch):
    made = []

    class Spy(Aligner):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            made.append(self.reward)
            raise ConfigError("that is enough")

    monkeypatch.setattr(generate, "Aligner", Spy)
    Path("in.jsonl").write_text('{"prompt_token_ids": [1, 2]}\n')
    flags = [f"--reward-arg={key}={value}" for key, value in settings.items()]
    policy = ["--policy", "parts_here:toy_policy", "--strategy", "plain"]
    assert main.main(["generate", "in.jsonl", *policy, "--reward", name, *flags]) == 2
    return made[0]


def through_a_sweep(name, settings):
    resolvers.register()
    chosen = ["policy=vllm", "policy.model=parts_here:toy_policy", "reward=named"]
    parts = {key.rpartition(".")[0] for key in settings}
    words = {f"{key}.name" if key in parts else key: settings[key] for key in settings}
    given = [f"+reward.settings.{key}={value}" for key, value in words.items()]
    given = [one.replace("=1,0.5", "=[1,0.5]") for one in given]
    return build(
        overrides.compose_config([*chosen, f"reward.name={name}", *given]).reward, "reward"
    )


def through_yaml(name, settings):
    """As a file of ours writes it down, with parts inside of parts."""
    node = nested(name, settings)
    own = {key: node[key] for key in node if key != "name"}
    target = {"_target_": "eval.engines.named_reward", "name": name, "settings": own}
    policy = {"_target_": "eval.engines.vllm_policy", "model": "parts_here:toy_policy"}
    return build(OmegaConf.create(target | {"policy": policy}), "reward")


def in_lm_eval(name, settings):
    given = {f"reward_args.{key}": value for key, value in settings.items()}
    words = {"policy": "parts_here:toy_policy", "reward": name, "strategy": "plain"}
    return Arguments.read(words | given).aligner().reward


def policy():
    return ToyPolicy()


DOORS = {
    "reward_from": lambda name, settings, _: reward_from(name, settings, policy),
    "an object": lambda name, settings, _: reward_from(nested(name, settings), {}, policy),
    "JSON text": lambda name, settings, _: reward_from(
        json.dumps(nested(name, settings)), {}, policy
    ),
    "Aligner": lambda name, settings, _: (
        Aligner(ToyPolicy(), name, Plain(), reward_args=settings).reward
    ),
    "rsalign generate": through_generate,
    "rsalign serve": lambda name, settings, _: (
        Options(reward=name, reward_args=settings).start_reward(policy).reward
    ),
    "RSALIGN_SERVE": lambda name, settings, _: (
        Options.from_json(json.dumps({"reward": nested(name, settings)}))
        .start_reward(policy)
        .reward
    ),
    "lm-eval": lambda name, settings, _: in_lm_eval(name, settings),
    "Hydra": lambda name, settings, _: through_a_sweep(name, settings),
    "YAML": lambda name, settings, _: through_yaml(name, settings),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", NAMED)
def test_every_door_takes_a_reward_by_name(kind, door, monkeypatch):
    name, settings = NAMED[kind]
    check(kind, DOORS[door](name, settings, monkeypatch))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("weigthed_sum", {}, "no reward is called 'weigthed_sum'; did you mean 'weighted_sum'?"),
        ("scaled", {}, "reward scaled needs 'reward': give it, such as reward=org/model"),
        (
            "scaled",
            {"reward": "parts_here:twice", "scal": 1},
            "reward scaled has no parameter 'scal'; did you mean 'scale'? (known: reward, scale, s",
        ),
        (
            "scaled",
            {"reward": "parts_here:twice", "scale": "x"},
            "reward scaled: scale='x': must be of type float: give a number, such as 0.5",
        ),
        (
            "scaled",
            {"reward": "parts_here:nothing"},
            "cannot load reward 'parts_here:nothing': AttributeError",
        ),
        (
            "weighted_sum",
            {"rewards.1": "parts_here:twice"},
            "reward weighted_sum: rewards has the places 1: count them 0, 1, ... without a gap",
        ),
        (
            "weighted_sum",
            {"rewards": "3", "weights": "1"},
            "weighted_sum: rewards.0: 0=3: name",
        ),
        ("density_ratio", {"numerator": "policy"}, "'policy' stands for the policy that draws the"),
        ("steps", {"reward": "parts_here:by_step"}, "reward steps needs 'decode'"),
        ("parts_here:by_step", {}, "ByStep judges steps and not answers: make it the reward of"),
        ({"reward": "twice"}, {}, "reward={'reward': 'twice'}: an object needs 'name'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(name, settings, message):
    with pytest.raises(ConfigError) as refused:
        reward_from(name, settings)
    assert message in str(refused.value)


def test_engines_of_parts_close_with_the_reward_or_when_it_cannot_be_made():
    own = policy_from(MODEL, {})
    model = type(own)
    aligner = Aligner(ToyPolicy(), "density_ratio", Plain(), reward_args={"numerator": MODEL})
    assert model.closed == 0
    aligner.close()
    assert model.closed == 1
    with pytest.raises(ConfigError, match="beta=-1"):
        reward_from("density_ratio", {"numerator": MODEL, "beta": "-1"})
    assert model.closed == 2


def test_a_process_reward_model_and_its_layout_by_name(tmp_path):
    """A model whose layout it cannot have is refused with the layout's words, whoever runs it."""
    text = ToyPolicy().text

    def steps(**settings):
        return reward_from("steps", settings, ToyPolicy)

    made = steps(reward="parts_here:by_step")
    assert (made.aggregate, made.splitter) == ("last", newline_ends)
    assert made.decode((1, 2)) == text((1, 2))
    for settings, fault in (
        ({}, "needs a step reward"),
        ({"layout": "trl"}, "needs a step reward"),
        ({"reward": "parts_here:by_step", "layout": "trl"}, "layout is for model="),
        ({"reward": "parts_here:by_step", "model": "org/prm"}, "and not both"),
        ({"model": "org/prm", "layout": "math-sheperd"}, "did you mean 'math-shepherd'"),
        ({"model": "org/prm", "layout": "eurus-prm"}, "use ImplicitStepReward"),
        ({"model": "org/prm", "layout": "trl", "layout.labl": 0}, "no parameter 'labl'"),
        ({"model": "org/prm", "layout": "trl", "layout.split": ";"}, "split="),
        ({"reward": "vllm_steps", "reward.model": "org/prm", "reward.layout": "tlr"}, "no layout"),
        (
            {
                "reward": "implicit_steps",
                "reward.numerator": MODEL,
                "reward.denominator": "policy",
            },
            "numerator",
        ),
    ):
        with pytest.raises(ConfigError, match=re.escape(fault)):
            steps(**settings)


def test_a_template_of_ones_own_by_path(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('user = "{response}?"\npattern = "([0-9])"\nscale = [0, 5]\n')

    def judge(**settings):
        return reward_from("pointwise_judge", {"policy": MODEL, **settings}).reward

    assert judge(template=str(own)).template == Template(
        user="{response}?", pattern="([0-9])", scale=(0, 5)
    )
    changed = judge(**{"template": str(own), "template.rubric": "Short?", "votes": 2})
    assert (changed.template.rubric, changed.template.scale) == ("Short?", (0.0, 5.0))
    rubric = judge(**{"template": "prometheus", "template.rubric": "Is it short?"}).template
    assert (rubric.rubric, rubric.scale) == ("Is it short?", (1, 5))
    for template, fault in (
        ("./none.toml", "cannot be read"),
        ("mt_bnch", "did you mean 'mt_bench'"),
    ):
        with pytest.raises(ConfigError, match=fault):
            judge(template=template)


def test_a_request_names_no_file(tmp_path):
    """Even where it may change the settings of a judge that the operator has named."""
    own = tmp_path / "own.toml"
    own.write_text('user = "{one} {other}?"\npattern = "([AB])"\nchoices = ["A", "B"]\n')
    judge = {"name": "pairwise_judge", "policy": MODEL}
    asked = {"name": "best_of", "select": {"name": "knockout", "judge": judge}}
    strategy = strategy_from(asked)
    settings = {"select.judge.template": str(own)}
    changed = build_strategy(None, settings, default=strategy)
    assert changed.select.judge.template.user == "{one} {other}?"
    with pytest.raises(ConfigError, match="no template is called"):
        build_strategy(None, settings, default=strategy, own_classes=False)


def test_the_policy_is_asked_for_only_by_a_reward_that_needs_it():
    def fail():
        raise AssertionError("not needed")

    assert isinstance(reward_from("capped", {"reward": "parts_here:twice", "cap": 1}, fail), Capped)
    with pytest.raises(AssertionError):
        reward_from("steps", {"reward": "parts_here:by_step"}, fail)


def test_a_strategy_takes_a_judge_by_name():
    made = strategy_from(
        {
            "name": "best_of",
            "select": {"name": "knockout", "judge": {"name": "pairwise_judge", "policy": MODEL}},
        }
    )
    assert isinstance(made, BestOf)
    assert isinstance(made.select, Knockout)
    assert isinstance(made.select.judge, PairwiseJudge)


@pytest.mark.parametrize(
    "settings",
    [
        {"select.judge": "pairwise_judge", "select.judge.policy": "vllm"},
        {"select.judge": "parts_here:by_step"},
    ],
    ids=str,
)
def test_a_request_cannot_name_a_model(settings):
    asked = read_object({"strategy": "best_of", "select": "knockout"} | settings)
    with pytest.raises(ConfigError, match="a request cannot name a judge"):
        requested(asked, None)


def test_policies_have_names_too():
    with pytest.raises(ConfigError, match="there is no model at /nowhere"):
        policy_from({"name": "vllm", "model": "/nowhere"}, {})
    with pytest.raises(ConfigError, match="policy server needs 'addresses'"):
        policy_from("server", {})
    assert isinstance(reward_from({"name": "cached", "reward": "parts_here:twice"}, {}), Reward)
    assert isinstance(ToyReward(), Reward)
