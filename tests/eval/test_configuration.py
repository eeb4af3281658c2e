"""Every file of conf/ composes and makes what it says; what is wrong is refused by name."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from eval import overrides, resolvers, run
from eval.configuration import build, hash_config
from eval.overrides import CONF
from eval.real.cache import MODELS
from rsalign import BestOf, Budget, ConfigError, InstallError, Plain
from rsalign.core.protocols import Strategy
from rsalign.selectors import Last, MajorityVote
from rsalign.selectors.extraction import FinalNumber
from rsalign.strategies import STRATEGIES

CHOICES = sorted(
    (str(path.parent.relative_to(CONF)), path.stem)
    for path in CONF.rglob("[!_]*.yaml")
    if path.parent != CONF
)
NEEDED = {
    "parts=draft": ["parts.draft.name=embedded/policy"],
    "parts=judge": ["parts.judge.policy=embedded/strong"],
    "task=named": ["task.name=eval.tasks.arithmetic:Arithmetic"],
    "reward=named": ["reward.name=scaled", "+reward.settings.reward=embedded"],
    "policy=vllm": ["policy.model=embedded/policy"],
    "policy=server": ["policy.addresses=[http://127.0.0.1:9]"],
    "reward=vllm": ["reward.model=embedded/reward"],
    "reward=server": ["reward.address=http://127.0.0.1:9"],
    "grader=reward": ["grader.reward.model=embedded/strong"],
    "grader=reference": ["grader.reward.model=embedded/strong"],
    "grader=harm": ["grader.reward.policy.model=embedded/strong"],
}
STARTS = ("policy", "reward", "grader")
"""Groups whose parts are engines: their targets are checked, and no engine is started."""


@pytest.fixture(autouse=True, scope="module")
def known(tmp_path_factory):
    """The functions of YAML files, and a cache that seems to hold the real models."""
    resolvers.register()
    cache = tmp_path_factory.mktemp("real")
    for name in MODELS:
        (cache / name).mkdir()
        (cache / name / "config.json").touch()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RSALIGN_REAL", str(cache))
        yield


def of_group(group):
    return [name for folder, name in CHOICES if folder == group]


def test_there_are_choices():
    groups = {folder for folder, _ in CHOICES}
    assert groups >= {"policy", "reward", "strategy", "segmenter", "budget", "task", "tracker"}
    assert groups >= {"experiment", "grader", "hydra/launcher"}
    assert len(CHOICES) > 50
    others = {path.name for path in CONF.rglob("*.yaml") if path.parent == CONF}
    # workers.yaml by way of launchers; distributed.yaml: see test_distributed
    assert others == {"config.yaml", "workers.yaml", "distributed.yaml"}


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes(group, name):
    choice = f"{group}={name}"
    if group == "hydra/launcher":  # Hydra makes it: see test_launchers
        overrides.check_overrides([choice])
    config = overrides.compose_config([choice, *NEEDED.get(choice, [])])
    if group in STARTS:
        node = OmegaConf.to_container(config[group], resolve=True)
        with pytest.raises(ConfigError, match="no such setting"):
            build(node | {"sampling_" if "sampling" in node else "model_": 1}, group)
    elif group in config and group not in ("experiment", "budget"):
        made = build(config[group], group)
        assert (made is None) == (choice == "strategy=choices")


@pytest.mark.parametrize("choice", ["policy=smollm2", "reward=smollm2_hh"])
def test_models_that_are_not_made_yet_are_missed_before_anything_starts(
    choice, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("RSALIGN_REAL", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["eval.run", choice, f"output={tmp_path / 'out'}"])
    assert run.main(lambda: pytest.fail("a job was begun")) == 2
    told = capsys.readouterr().err
    assert "`make real`" in told
    assert str(tmp_path) in told
    assert "interpolation" not in told


@pytest.mark.parametrize("name", of_group("strategy"))
def test_strategies_fit_every_budget(name):
    """Composed once: a budget only replaces the node of this name."""
    config = overrides.compose_config([f"strategy={name}"])
    for answers in of_group("budget"):
        config.budget = OmegaConf.load(CONF / "budget" / f"{answers}.yaml")
        strategy = build(config.strategy, f"strategy={name} budget={answers}")
        assert strategy is None or isinstance(strategy, Strategy)


def test_every_strategy_has_a_file():
    made = set()
    for name in of_group("strategy"):
        made.add(type(build(overrides.compose_config([f"strategy={name}"]).strategy)))
    # Cards is the inner part of Calibrate, which finds its target
    assert made | {STRATEGIES["cards"]} >= {STRATEGIES[n] for n in STRATEGIES}


@pytest.mark.parametrize("answers", of_group("budget"))
def test_limits_are_budgets(answers):
    limit = build(overrides.compose_config([f"budget={answers}"]).budget.limit, "budget.limit")
    assert limit is None or isinstance(limit, Budget)


def test_votes_are_by_what_the_task_calls_an_answer():
    def strategy(name, task):
        config = overrides.compose_config([f"strategy={name}", f"task={task}"])
        return build(config.strategy, "strategy")

    assert strategy("majority_vote", "math500").select.extract(r"is \boxed{\frac{1}{2}}") != "2"
    assert strategy("qalign", "gsm8k").answer == MajorityVote(extract=FinalNumber())
    for name in ("majority_vote", "reward_weighted_vote", "self_certainty", "early_stop"):
        with pytest.raises(ConfigError, match="answers to task 'ifeval' cannot vote"):
            strategy(name, "ifeval")
    assert strategy("qalign", "hh_rlhf_helpful").answer == Last()
    config = overrides.compose_config(["strategy=qalign", "strategy.answer.votes=false"])
    assert build(config.strategy).answer == Last()


@pytest.mark.parametrize("name", of_group("segmenter"))
def test_segmenters_combine_with_cards(name):
    config = overrides.compose_config(["strategy=cards", "budget=4", f"segmenter={name}"])
    segmenter = build(config.strategy).inner.segmenter
    assert callable(segmenter.ends_before)
    assert segmenter == build(config.segmenter)


def test_a_leaf_is_an_argument():
    config = overrides.compose_config(
        ["strategy=best_of", "budget=4", "strategy.inner.max_tokens=9"]
    )
    assert build(config.strategy) == BestOf(n=4, inner=Plain(max_tokens=9))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "rsalign",
        "rsalignx.Plain",
        "evaluate.load",
        "builtins.eval",
        "rsalign.cli.main._private",
        "eval.host.os.system",
        "eval.host.subprocess.run",
        "rsalign.core.align.asyncio.run",
        "rsalign.__init__.Plain",
    ],
)
def test_targets_elsewhere_are_refused_before_anything_is_built(target):
    built = {"_target_": "rsalign.Plain", "max_tokens": 0}  # would itself be refused
    with pytest.raises(ConfigError, match="_target_"):
        build({"first": built, "second": {"_target_": target}})


@pytest.mark.parametrize("target", ["rsalign.Plane", "rsalign.nothing.At", "rsalign.__version__"])
def test_targets_that_are_not_there_are_refused(target):
    with pytest.raises(ConfigError, match="_target_"):
        build({"_target_": target})


def test_unknown_and_missing_settings_name_what_is_possible():
    with pytest.raises(
        ConfigError, match=r"strategy.inner.max_token: .* did you mean 'max_tokens'"
    ):
        build(
            {"_target_": "rsalign.BestOf", "inner": {"_target_": "rsalign.Plain", "max_token": 1}},
            "strategy",
        )
    with pytest.raises(ConfigError, match=r"segmenter.threshold is missing"):
        build({"_target_": "rsalign.Entropy"}, "segmenter")
    with pytest.raises(ConfigError, match=r"strategy: BestOf\(n=0\)"):
        build({"_target_": "rsalign.BestOf", "n": 0}, "strategy")
    with pytest.raises(ConfigError, match="policy"):
        build(overrides.compose_config(["policy=vllm"]).policy, "policy")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("strategy=best_off", "best_of"),
        ("strategy=_markov_chain", "no such choice"),
        ("strateg=best_of", "strategy"),
        ("strategy.nn=4", "strategy.n"),
        ("task.limmit=3", "task.limit"),
        ("budget=5", "256"),
        ("sedes=[1]", "seeds"),
        ("tracker=mlflo", "mlflow"),
        ("experiment=studdy", "study"),
        ("hydra/launcher=jobib", "joblib"),
        ("hydra.runn.dir=elsewhere", "hydra.run.dir"),
        ("hydra.launcher.n_jobs=2", "hydra.launcher"),
        ("~strateg", "strategy"),
        ("hydra.sweeper.params.budget=4", "no preset is named"),
        ("workers=2", "hydra/launcher=joblib"),
        ("+anything.new=1", "anything"),
        ("++sedes=[1]", "seeds"),
        ("+budget.answer=2", "answers"),
    ],
)
def test_the_command_line_is_told_the_nearest_name(wrong, meant):
    with pytest.raises(ConfigError, match=meant):
        overrides.check_overrides(overrides.quote_numbers([wrong]))


def test_a_setting_that_its_file_leaves_out_is_added():
    with pytest.raises(ConfigError, match=r"add it as \+task.instruction="):
        overrides.check_overrides(["task=gsm8k", "task.instruction=x"])
    overrides.check_overrides(["task=gsm8k", "+task.instruction=x"])


@pytest.mark.parametrize(
    "right",
    [
        ["strategy=best_of,qalign", "budget=4,16", "seeds=[0,1]"],
        ["strategy=qalign", "strategy.beta=0.3"],
        ["hydra.run.dir=elsewhere"],
        ["hydra/launcher=joblib", "workers=2"],
        ["hydra/launcher=ray", "hydra.launcher.ray.init.address=auto"],
        ["hydra/job_logging=disabled"],
        ["experiment=study", "budget=4", "strategy=qalign,quest", "strategy.beta=0.3"],
        ["experiment=study", "hydra.sweeper.params.budget='4'"],
        ["strategy=qalign", "strategy.beta=interval(0.1,1)"],
        ["~reward"],
    ],
)
def test_the_command_line_may_say_what_there_is(right):
    overrides.check_overrides(overrides.quote_numbers(right))


@pytest.mark.parametrize(
    "override",
    [
        "hydra.launcher._target_=os.system",
        "hydra.launcher._target_=eval.run.main",
        "hydra.sweeper._target_=subprocess.run",
        "+hydra.callbacks.one._target_=os.system",
        "+hydra.callbacks.one._target_=hydra_plugins.some.Launcher",
        "+hydra.callbacks.one._target_=${oc.env:HOME}",
        "+hydra.help.deep={_target_: os.system}",
    ],
)
def test_targets_in_hydras_own_settings_are_refused_before_it_builds_them(override):
    with pytest.raises(ConfigError, match="_target_"):
        overrides.check_overrides([override])


def test_a_launcher_that_is_not_installed_is_named():
    override = "hydra.launcher._target_=hydra_plugins.hydra_other_launcher.Launcher"
    with pytest.raises(InstallError, match="pip install hydra-other-launcher"):
        overrides.check_overrides([override])


@pytest.mark.parametrize("flag", ["--config-dir=here", "--config-d=here", "-cn=other", "-cp=here"])
def test_configurations_from_elsewhere_are_refused(flag):
    with pytest.raises(ConfigError, match="conf/experiment"):
        overrides.read_overrides(["-m", flag, "strategy=plain"])


@pytest.mark.parametrize("name", [name for name in of_group("experiment") if name != "none"])
def test_experiments_sweep_over_what_there_is(name):
    config = overrides.check_overrides([f"experiment={name}"])
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.experiment_name == name
    params = [f"{key}={values}" for key, values in config.hydra.sweeper.params.items()]
    parsed = OverridesParser.create().parse_overrides(params)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    assert len(jobs) == len({tuple(job) for job in jobs}) > 4
    for job in (jobs[0], jobs[-1]):
        assert isinstance(
            build(overrides.compose_config([f"experiment={name}", *job]).strategy), Strategy
        )
    sizes = [int(job[0].split("=")[1].strip("'")) for job in jobs]
    assert sizes == sorted(sizes, reverse=True)  # the largest pool is drawn first


def test_the_study_is_the_one_that_is_reported():
    config = overrides.check_overrides(["experiment=study"])
    assert (config.task.split, config.task.limit, list(config.seeds)) == ("heldout", 200, [0, 1, 2])
    swept = {
        key: {value.strip("' ") for value in values.split(",")}
        for key, values in config.hydra.sweeper.params.items()
    }
    assert swept["budget"] == {"1", "4", "16", "64", "256"}
    votes = {"majority_vote", "soft", "reward_weighted_vote", "minimum_bayes_risk"}
    assert swept["strategy"] == {"plain", "best_of", "cards", "qalign"} | votes


def test_the_hash_tells_what_determines_the_draws():
    one = hash_config(overrides.compose_config([]))
    assert one == hash_config(
        overrides.compose_config(["output=elsewhere", "experiment_name=other"])
    )
    assert one == hash_config(overrides.compose_config(["hydra/launcher=joblib", "tracker=mlflow"]))
    different = [["budget=4"], ["seeds=[1]"], ["task.limit=3"], ["strategy=plain"]]
    assert len({one, *(hash_config(overrides.compose_config(other)) for other in different)}) == 5
