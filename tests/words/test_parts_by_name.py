"""What one door takes as policy, reward or strategy, all take."""

import shutil
import sys
from pathlib import Path

import pytest

from eval import engines
from rsalign import Aligner, BestOf, ConfigError, Plain
from rsalign.cli.main import main
from rsalign.core.types import Message, Prompt, Response
from rsalign.harnesses.arguments import Arguments
from rsalign.rewards import FunctionReward
from rsalign.serve.options import Options
from rsalign.testing import ToyPolicy, ToyReward
from rsalign.words.parts import (
    POLICIES,
    default_reward,
    model_from,
    policy_from,
    read_part,
    reward_from,
    strategy_from,
)

PROMPT, ANSWER = Prompt((Message("user", "a"),), (1,)), Response((1, 2), "four", None)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A module in the current directory, which is not on the path of imports."""
    shutil.copy(Path(__file__).with_name("own_parts.py"), tmp_path / "parts_here.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.delitem(sys.modules, "parts_here", raising=False)
    yield
    engines.close()


REWARD_DOORS = {
    "reward_from": lambda name: reward_from(name, {}),
    "Aligner": lambda name: Aligner(ToyPolicy(), name, Plain()).reward,
    "serve": lambda name: Options(reward=name).start_reward().reward,
    "lm-eval": lambda name: (
        Arguments.read({"policy": "parts_here:toy_policy", "reward": name, "strategy": "plain"})
        .aligner()
        .reward
    ),
    "sweep": lambda name: engines.vllm_reward(name),
}


@pytest.mark.parametrize("door", REWARD_DOORS)
def test_every_door_takes_a_reward_of_ones_own(door):
    function = REWARD_DOORS[door]("parts_here:score")
    assert isinstance(function, FunctionReward)
    assert REWARD_DOORS[door]("parts_here:Scale").by == 1.0
    assert REWARD_DOORS[door]("parts_here:twice").by == 2.0
    for name, message in (
        ("parts_here:nothing", "cannot load reward 'parts_here:nothing': AttributeError"),
        ("no_such_module:x", "cannot load reward 'no_such_module:x': ModuleNotFoundError"),
        ("parts_here:three", "reward 'parts_here:three' is a BestOf: give a model id"),
    ):
        with pytest.raises(ConfigError, match=message):
            REWARD_DOORS[door](name)


def test_every_door_takes_a_policy_of_ones_own():
    for name in ("parts_here:toy_policy", "parts_here:make_policy", "parts_here:ToyPolicy"):
        assert isinstance(policy_from(name, {}), ToyPolicy)
        assert isinstance(Aligner(name).policy, ToyPolicy)
        assert isinstance(engines.vllm_policy(name), ToyPolicy)
        assert isinstance(Arguments.read({"policy": name, "strategy": "plain"}).policy, str)
    assert isinstance(policy_from("parts_here:make_policy", {"seed": 3}), ToyPolicy)
    with pytest.raises(ConfigError, match=r"engine_args=\{'seeds': 3\} do not fit make_policy"):
        policy_from("parts_here:make_policy", {"seeds": 3})
    with pytest.raises(ConfigError, match="cannot be made: SystemExit: 3"):
        policy_from("parts_here:fail", {})
    with pytest.raises(ConfigError, match="cannot be applied to a ToyPolicy that exists"):
        policy_from("parts_here:toy_policy", {"seed": 3})


STRATEGY_DOORS = {
    "strategy_from": strategy_from,
    "Aligner": lambda name: Aligner(ToyPolicy(), ToyReward(), name).settings.strategy,
    "serve": lambda name: Options(reward="x", strategy=name).request_rules().default,
    "lm-eval": lambda name: Arguments.read({"strategy": name, "reward": "x"}).strategy,
    "sweep": engines.named_strategy,
}


@pytest.mark.parametrize("door", STRATEGY_DOORS)
def test_every_door_takes_a_strategy_of_ones_own(door):
    made = STRATEGY_DOORS[door]
    assert made("parts_here:three") == BestOf(n=3)
    assert type(made("parts_here:Mine")).__name__ == "Mine"
    assert made("best_of") == BestOf()
    with pytest.raises(ConfigError, match="parts_here:score is not a strategy: give a dataclass"):
        made("parts_here:score")
    with pytest.raises(ConfigError, match="cannot load strategy 'parts_here:nope'"):
        made("parts_here:nope")


def test_settings_reach_into_ones_own():
    own = strategy_from({"name": "parts_here:Mine", "n": "3", "inner": "best_of", "inner.n": "5"})
    assert (own.n, own.inner) == (3, BestOf(n=5))
    assert strategy_from({"name": "parts_here:three", "n": 4}) == BestOf(n=4)


def test_generate_says_what_is_wrong_with_a_reward(capsys, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("Ann has")
    assert main(["generate", str(source), "--reward", "parts_here:nothing"]) == 2
    assert "cannot load reward 'parts_here:nothing'" in capsys.readouterr().err
    assert main(["generate", str(source), "--policy", "org/other"]) == 2
    assert "needs a reward" in capsys.readouterr().err  # the embedded one is for embedded policies


def test_generate_takes_ones_own(capsys, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt_token_ids": [1, 2]}\n')
    own = ["--policy", "parts_here:toy_policy", "--reward", "parts_here:score"]
    done = main(
        ["generate", str(source), "-o", str(target), *own, "--strategy", "parts_here:three"]
    )
    assert (done, capsys.readouterr().err) == (0, "")
    assert '"reward"' in target.read_text()


def test_names_and_addresses():
    assert read_part("policy", "embedded/strong", POLICIES) == POLICIES["embedded/strong"]
    assert read_part("policy", "http://a:1, http://b:2", POLICIES) == ["http://a:1", "http://b:2"]
    assert read_part("policy", "http://a:1", POLICIES) == "http://a:1"
    assert read_part("policy", "org/model", POLICIES) == "org/model"
    assert default_reward("embedded") == default_reward(POLICIES["embedded"]) is not None
    assert default_reward("org/model") is None
    assert reward_from("none", {}) is reward_from("", {}) is None
    for given in ("http://a:1", "parts_here:toy_policy"):
        with pytest.raises(ConfigError, match="give the id or path of a model"):
            model_from("--policy", given)


def test_a_path_with_a_colon_is_a_path(tmp_path):
    (tmp_path / "parts_here:score").mkdir()
    assert read_part("reward", "parts_here:score", {}) == "parts_here:score"
