"""Launchers: a real sweep through each, and what a worker may use of the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import OmegaConf
from test_distributed import PARTS, without_ray

from eval import overrides, resolvers, sweep
from eval.records import read_records
from rsalign.core.journal import Journal

ROOT = Path(__file__).parents[2]
LAUNCHERS = {"basic", "joblib", "ray", "submitit_local", "submitit_slurm"}
SWEEP = ("strategy=plain,majority_vote", "budget=4", "task.limit=2")
TOY = (
    "policy._target_=rsalign.testing.ToyPolicy",
    "+policy.vocab=3",
    *(f"~policy.{name}" for name in PARTS),
    "task=gsm8k",
    "+task.instruction=''",
    "task.max_tokens=4",
)
"""A policy whose words are numbers: no engine starts."""


@pytest.fixture(autouse=True, scope="module")
def known():
    resolvers.register()


def run(output, *arguments):
    done = forked.run(
        (sys.executable, "-m", "eval.run", *arguments, "reward=none", f"output={output}"),
        cwd=ROOT,
        env=without_ray(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def answers(output):
    return {
        (path.parent.name, record["item"], record["seed"]): record["answers"]
        for path in Path(output).glob("*/records.jsonl")
        for record in read_records(path)
    }


def cores(output):
    """Of each worker that had a share, by its number."""
    lines = [
        line
        for log in Path(output).glob("hydra/*/*.log")
        for line in log.read_text().splitlines()
        if "[eval.workers]" in line and " has GPUs " in line
    ]
    return {
        line.split("worker ")[1].split(" ")[0]: json.loads(line.rpartition("cores ")[2])
        for line in lines
    }


def toy_task(output):
    path = output / "rows.jsonl"
    rows = [{"question": text, "answer": "#### 1"} for text in ("1", "2 1")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [*TOY, f"task.path={path}"]


def test_there_are_presets():
    assert {path.stem for path in (overrides.CONF / "hydra/launcher").glob("*.yaml")} == LAUNCHERS


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_presets_make_launchers(launcher):
    config = overrides.check_overrides([f"hydra/launcher={launcher}"])
    with initialize_config_dir(str(overrides.CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        made = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(loader, Callbacks(config)),
            task_function=sweep.run,
            config=config,
        )
    assert made.config is config
    parallel_here = launcher in {"joblib", "ray", "submitit_local"}
    assert ("workers" in config) == parallel_here


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """By way of a preset, which sweeps without being told to (-m)."""
    output = tmp_path_factory.mktemp("basic")
    said = run(output, "experiment=study", "seeds=[0]", *SWEEP)
    assert len(answers(output)) == 4
    return output, said


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_one_engine_serves_all_jobs_of_the_basic_launcher(one_by_one):
    output, said = one_by_one
    assert said.count("started the policy embedded/policy") == 1
    assert not cores(output)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A sweep that starts no engine, as overrides, and its answers in one process."""
    output = tmp_path_factory.mktemp("toys")
    sweep = [*SWEEP[:2], *toy_task(output)]
    run(output, "-m", "hydra/launcher=basic", *sweep)
    assert len(answers(output)) == 4
    return sweep, answers(output)


def check_two_workers(launcher, output, sweep, expected):
    run(output, "-m", f"hydra/launcher={launcher}", "workers=2", *sweep)
    assert answers(output) == expected
    shares = cores(output)
    assert set(shares) == {"1", "2"}
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(shares["1"]) & set(shares["2"])


@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["joblib", pytest.param("ray", marks=pytest.mark.nightly)])
def test_parallel_workers_answer_as_one_process_does(launcher, one_by_one, tmp_path):
    check_two_workers(launcher, tmp_path, SWEEP, answers(one_by_one[0]))


@pytest.mark.timeout(600)
def test_parallel_workers_of_ray_answer_as_one_process_does(toys, tmp_path):
    check_two_workers("ray", tmp_path, *toys)


@pytest.mark.timeout(600)
def test_detached_jobs_wait_for_their_share(toys, tmp_path):
    sweep, expected = toys
    run(tmp_path, "-m", "hydra/launcher=submitit_local", "workers=1", *sweep)
    assert answers(tmp_path) == expected
    assert cores(tmp_path) == {"1": sorted(os.sched_getaffinity(0))}


CLAIM = """
import json, os, sys
from pathlib import Path
from eval import workers
workers.claim(Path(sys.argv[1]))
cores = sorted(os.sched_getaffinity(0))
print(json.dumps([os.environ["CUDA_VISIBLE_DEVICES"], cores]), flush=True)
sys.stdin.read()
"""


def test_a_share_has_one_worker_at_a_time_and_is_free_when_it_ends(tmp_path):
    cpus = sorted(os.sched_getaffinity(0))
    offer = json.dumps({"workers": 2, "gpus": ["4", "7"], "cpus": cpus})

    def worker():
        return forked.Popen(
            (sys.executable, "-c", CLAIM, str(tmp_path)),
            cwd=ROOT,
            env=os.environ | {"RSALIGN_WORKERS": offer, "CUDA_VISIBLE_DEVICES": "4,7"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first, second = worker(), worker()
    has = [json.loads(one.stdout.readline()) for one in (first, second)]
    assert {gpu for gpu, _ in has} == {"4", "7"}
    if len(cpus) > 1:
        assert sorted(has[0][1] + has[1][1]) == cpus
    third = worker()
    first.kill()
    first.wait()
    assert json.loads(third.stdout.readline()) == has[0]
    for one in (second, third):
        one.communicate()


def test_a_job_with_a_journal_of_its_own_goes_on_with_it(tmp_path):
    config = overrides.compose_config(
        [*toy_task(tmp_path), "strategy=plain", "reward=none", f"output={tmp_path}"]
    )
    with Journal(tmp_path / "draws.journal"):  # as if another worker had it
        folder = sweep.run(config).folder
    drawn = (folder / "draws.journal").read_bytes()
    before = read_records(folder / "records.jsonl")
    (folder / "records.jsonl").unlink()
    sweep.run(config)
    assert (folder / "draws.journal").read_bytes() == drawn
    after = read_records(folder / "records.jsonl")
    assert [one["answers"] for one in after] == [one["answers"] for one in before]
    assert OmegaConf.load(folder / "config.yaml").journal is True
