"""Named parts are read in one way at every door, and refused there before anything is started."""

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import pytest

from eval import engines, overrides, resolvers
from eval.job import SweepJob
from rsalign import Aligner, BestOf, Budget, ConfigError, Knockout, Plain, Policy
from rsalign.cli.main import main
from rsalign.harnesses.arguments import Arguments
from rsalign.serve.options import Options
from rsalign.serve.rules import RequestRules, split_budget
from rsalign.strategies import STRATEGIES
from rsalign.testing import ToyPolicy, ToyReward
from rsalign.words.build import build_strategy
from rsalign.words.named_parts import declared_types, read_part_words, read_parts, start_parts
from rsalign.words.read import Specification, read_arguments

HERE = "own_named_parts"


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / f"{HERE}.py").write_text(
        "from dataclasses import dataclass\n"
        "from rsalign.testing import ToyPolicy\n"
        "@dataclass\n"
        "class Longer:\n"
        "    by: float = 0.5\n"
        "    fingerprint = 'longer'\n"
        "    async def prefer(self, prompt, one, other):\n"
        "        return self.by if len(one.tokens) > len(other.tokens) else 1 - self.by\n"
        "class Shared(ToyPolicy):\n"
        "    closed = 0\n"
        "    def close(self):\n"
        "        Shared.closed += 1\n"
        "def length(prompt, response):\n"
        "    return float(len(response))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def in_generate(words, settings, tmp_path):
    flags = [f"--part={key}={value}" for key, value in words.items()]
    flags += [f"--set={key}={value}" for key, value in settings.items()]
    (tmp_path / "prompts.txt").write_text("Tom has 2 apples.\n")
    code = main(["generate", "prompts.txt", "-o", "out.jsonl", "--reward=", *flags])
    assert code == 0
    return json.loads((tmp_path / "out.jsonl").read_text())["usage"]


def in_lm_eval(words, settings):
    parts = {f"parts.{key}": value for key, value in words.items()}
    return Arguments.read({"strategy": "best_of", "reward": ""} | settings | parts).parts


def as_yaml(words, where):
    """As overrides: what has settings below it has its name among them."""
    split = {key.partition(".")[0] for key in words if "." in key}
    return [
        f"+{where}.{key}{'.name' if key in split else ''}={value}" for key, value in words.items()
    ]


def in_a_sweep(words, settings):
    resolvers.register()
    chosen = ["strategy=named", "strategy.name=best_of", "strategy.max_tokens=null", "reward=none"]
    chosen += as_yaml(settings, "strategy.settings") + as_yaml(words, "parts")
    return SweepJob.of(overrides.compose_config(chosen)).parts


def in_a_server(words, settings):
    return Options(strategy="best_of", settings=settings, parts=words).parts


DOORS = {"lm-eval": in_lm_eval, "sweep": in_a_sweep, "server": in_a_server}
SETTINGS = {"n": "4", "select": "knockout"}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_reads_parts_alike_and_refuses_what_is_missing(door):
    read = DOORS[door]
    words = {"judge": f"{HERE}:Longer", "judge.by": "0.75"}
    expected = {"judge": {"name": f"{HERE}:Longer", "by": 0.75}}
    given = read(words, SETTINGS)
    assert {name: {**one, "by": float(one["by"])} for name, one in given.items()} == expected
    assert start_parts(given).parts["judge"].by == 0.75
    with pytest.raises(ConfigError, match=r"BestOf needs the part 'jury'.* --part jury="):
        read(words, SETTINGS | {"select.judge": "jury"})
    if door != "server":  # whose other requests may use it
        with pytest.raises(ConfigError, match="does not use the part 'spare'"):
            read(words | {"spare": f"{HERE}:length"}, SETTINGS)


def test_a_part_of_generate_is_metered_limited_and_on_record(tmp_path, capsys):
    words = {"judge": f"{HERE}:Longer"}
    settings = SETTINGS | {"inner.max_tokens": "8"}
    usage = in_generate(words, settings, tmp_path)
    assert usage["judge.reward_calls"] == 3
    assert usage["reward_calls"] == 0
    (tmp_path / "out.jsonl").unlink()
    usage = in_generate(words, settings | {"budget.parts.judge.reward_calls": "1"}, tmp_path)
    assert usage["judge.reward_calls"] == 1
    assert main(["generate", "prompts.txt", "--set=select=knockout", "--reward="]) != 0
    assert "needs the part 'judge'" in capsys.readouterr().err


def test_names_and_kinds_that_cannot_be_told_are_refused():
    for given, says in {
        "helper=org/model": r"part 'helper': it is not clear .* helper.kind=policy",
        "judge=org/model": r"judge=pairwise_judge and judge.policy=org/model",
        "x=pairwise_judg": "did you mean 'pairwise_judge'",
        "x=math:pi": "no policy, reward or judge",
        "x=": "nothing says what it is",
        "x.by=2": "settings of nothing",
        "policy=embedded": "cannot be called 'policy'",
        "a b=embedded": "cannot be called",
        "x": "give name=value, such as --part judge=pairwise_judge",
    }.items():
        with pytest.raises(ConfigError, match=says):
            start_parts(read_parts([given]))
    with pytest.raises(ConfigError, match="kind='engine': give policy or reward or judge"):
        start_parts({"x": {"name": "org/model", "kind": "engine"}})
    with pytest.raises(ConfigError, match="'judge' is given twice"):
        read_parts(["judge=a:b", "judge=c:d"])
    assert read_part_words(None) == read_part_words({}) == {}


def test_a_strategy_that_declares_what_a_part_is_decides_its_kind(monkeypatch):
    @dataclass(frozen=True)
    class Drafted(Plain):
        needs: ClassVar[dict[str, type]] = {"draft": Policy}

    monkeypatch.setitem(STRATEGIES, "drafted", Drafted)
    assert declared_types()["draft"] == (Policy,)
    made = []
    monkeypatch.setattr(
        "rsalign.policies.vllm.VllmPolicy.start",
        lambda model, **given: made.append((model, given)) or ToyPolicy(),
    )
    started = start_parts(read_parts(["draft=org/model", "draft.max_model_len=64"]))
    assert isinstance(started.parts["draft"], ToyPolicy)
    assert made == [("org/model", {"reasoning": None, "max_model_len": 64})]
    with pytest.raises(ConfigError, match=r"needs a Policy as the part 'draft'.*is none"):
        Aligner(ToyPolicy(), None, Drafted(), parts={"draft": ToyReward()})


def test_parts_share_engines_and_close_what_was_started_alone():
    given = {
        "one": {"name": f"{HERE}:Shared", "kind": "policy"},
        "ready": ToyReward(),
        "length": f"{HERE}:length",
    }
    started = start_parts(given)
    shared = type(started.parts["one"])
    started.close()
    assert shared.closed == 1
    assert started.parts["ready"] is given["ready"]
    with pytest.raises(ConfigError, match="part 'last'"):
        start_parts(given | {"last": "org/model"})
    assert shared.closed == 2


def test_text_in_a_setting_names_a_part_unless_it_is_a_class():
    made = build_strategy("best_of", SETTINGS | {"select.judge": "jury"}, own_classes=False)
    assert made.select == Knockout(judge="jury")
    with pytest.raises(ConfigError, match="did you mean 'pairwise_judge'"):
        build_strategy("best_of", SETTINGS | {"select.judge": "pairwise_judg"})
    with pytest.raises(ConfigError, match="a request cannot name a judge"):
        build_strategy("best_of", SETTINGS | {"select.judge": "pairwise_judge"}, own_classes=False)


def test_requests_name_a_servers_parts_within_its_limits():
    rules = Options(parts={"judge": f"{HERE}:Longer"}).request_rules()
    asked = Specification(name="best_of", settings=SETTINGS)
    assert rules.read(asked).strategy.select == Knockout(judge="judge")
    with pytest.raises(ConfigError, match="needs the part 'jury', and this server has judge"):
        rules.read(Specification(name="best_of", settings=SETTINGS | {"select.judge": "jury"}))
    with pytest.raises(ConfigError, match="and this server has none"):
        RequestRules().read(asked)

    words = ["n=4", "select=knockout", "budget.parts.judge.reward_calls=4"]
    budget = rules.read(read_arguments("best_of", words)).budget
    assert budget == Budget(parts={"judge": Budget(reward_calls=4)})
    assert split_budget(budget, 2).parts["judge"].reward_calls == 2
    limited = RequestRules(parts=("judge",), budget=Budget(parts={"judge": Budget(reward_calls=3)}))
    with pytest.raises(ConfigError, match=r"judge\.reward_calls=4: this server allows 3"):
        limited.read(read_arguments("best_of", words))
    assert limited.read(asked).budget.parts["judge"].reward_calls == 3
    with pytest.raises(ConfigError, match=r"parts\.jury: this server has no such part"):
        limited.read(read_arguments("plain", ["budget.parts.jury.reward_calls=1"]))
    with pytest.raises(ConfigError, match=r"the budget has no limit 'parts\.judge.tokens'"):
        read_arguments("best_of", ["budget.parts.judge.tokens=1"])


def test_a_sweep_starts_equal_parts_once():
    given = {"length": f"{HERE}:length"}
    with closed_engines():
        one = engines.named_parts(given, BestOf())
        assert engines.named_parts(given, BestOf(n=2))["length"] is one["length"]
    assert engines.named_parts({}, BestOf()) == {}


@contextmanager
def closed_engines():
    try:
        yield
    finally:
        engines.close()
