"""The Ray runner: whoever answers, in whatever order, after whatever death, it is the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import forked
import psutil
import pytest
import ray
from test_sweep import num_lines, table

from eval import overrides, resolvers
from eval.configuration import hash_config
from eval.distributed.spread import Spread, of_one_machine, spread_of
from eval.job import SweepJob
from rsalign import ConfigError

ROOT = Path(__file__).parents[2]
CHAINS = ("strategy=qalign", "budget=4", "task.limit=5")
# answers are short, and one prompt has more tokens: its records are errors
ENGINES = (
    *CHAINS,
    *("strategy.steps=10", "seeds=[0,1]", "+policy.engine_args.max_model_len=54"),
)
PARTS = ("model", "sampling", "engine_args", "chat_options", "reasoning_parser")
"""Settings of the embedded policy that the toy policy does not have."""
TOYS = (
    *CHAINS,
    *("strategy.steps=40", "seeds=[0,1,2,3,4,5]"),  # Ray takes a second for each record
    *("policy._target_=rsalign.testing.ToyPolicy", "+policy.vocab=3", "+policy.max_context=24"),
    *(f"~policy.{name}" for name in PARTS),
    *("reward._target_=rsalign.testing.ToyReward", "~reward.model", "~reward.engine_args"),
    *("task=gsm8k", "+task.instruction=''", "task.max_tokens=6"),
)
"""No engine starts: a worker is ready as soon as Ray is."""
QUESTIONS = ("1", "2 1", "1 1 2", "2 " * 30, "2 2 1 1")
SECONDS = 500  # for what takes twenty on two idle cores
RAY = ("spread.init.num_cpus=2", "spread.init.object_store_memory=80000000")


def without_ray():
    """The environment without what `ray.init` left there, which programs read at another time."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@pytest.fixture(scope="module")
def start():
    """Starts a runner; what a failed test leaves behind is killed."""
    begun = []

    def one(module, output, *arguments):
        process = forked.Popen(
            (sys.executable, "-m", module, *arguments, f"output={output}"),
            cwd=ROOT,
            env=without_ray() | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append(process)
        return process

    yield one
    for process in begun:
        process.kill()


def finish(process):
    said, _ = process.communicate(timeout=SECONDS)
    # the exit status says that an answer failed, and the last lines which
    assert process.returncode == (
        "eval.run: failed:" in said or "eval.distributed: failed:" in said
    ), said
    return said


def descendants(process):
    return psutil.Process(process.pid).children(recursive=True)


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def workers(processes):
    return [one for one in processes if lives(one) and "ray::MapWorker" in one.name()]


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def known():
    resolvers.register()


@pytest.fixture(scope="module")
def job(request, tmp_path_factory):
    """The sweep of a test, as overrides."""
    if request.param == "engines":
        return ENGINES
    rows = tmp_path_factory.mktemp("task") / "rows.jsonl"
    asked = [{"question": text, "answer": "#### 1"} for text in QUESTIONS]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    return (*TOYS, f"task.path={rows}")


@pytest.fixture(scope="module")
def one_machine(start, job, tmp_path_factory):
    output = tmp_path_factory.mktemp("one_machine")
    finish(start("eval.run", output, *job))
    return output


def on(*kinds):
    return pytest.mark.parametrize("job", kinds, indirect=True, scope="module")


@pytest.mark.timeout(3 * SECONDS)
@on("engines")
def test_one_worker_gives_the_records_of_one_machine(start, job, one_machine, tmp_path):
    said = finish(start("eval.distributed", tmp_path, *job, *RAY, "spread.batch_size=5"))
    found = table(tmp_path)
    assert found == table(one_machine)
    assert len(found) == num_lines(tmp_path) == 10
    assert sum(record["error"] is not None for record in found.values()) == 2
    assert "10 records, 2 failed" in said
    (mine,), (theirs,) = (output.glob("*/config.yaml") for output in (tmp_path, one_machine))
    assert mine.read_text() == theirs.read_text().replace(str(one_machine), str(tmp_path))


@pytest.mark.timeout(3 * SECONDS)
@on("toys", pytest.param("engines", marks=pytest.mark.nightly))
def test_two_workers_give_them_too_whoever_is_killed(start, job, one_machine, tmp_path):
    command = (*job, *RAY, "workers=2", "spread.batch_size=1", "spread.batches_at_once=1")
    driver = start("eval.distributed", tmp_path, *command)
    wait_for(lambda: num_lines(tmp_path) >= 2 or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    left = descendants(driver)
    assert len(workers(left)) == 2
    driver.kill()
    driver.communicate()
    # nothing outlives the driver but Ray's own agents, which take a minute to notice
    left = [one for one in left if not (lives(one) and one.name().endswith("Agent"))]
    wait_for(lambda: not any(map(lives, left)))
    recorded, total = num_lines(tmp_path), num_lines(one_machine)
    assert 2 <= recorded < total

    driver = start("eval.distributed", tmp_path, *command)
    wait_for(lambda: num_lines(tmp_path) > recorded or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    workers(descendants(driver))[0].kill()
    finish(driver)
    assert table(tmp_path) == table(one_machine)
    (file,) = tmp_path.glob("*/records.jsonl")
    recorded = [json.loads(line) for line in file.read_bytes().splitlines()]
    answered = [(one["item"], one["seed"]) for one in recorded if one["error"] is None]
    assert len(answered) == len(set(answered)) == total * 4 // 5
    assert len(list(tmp_path.glob("draws-*.journal"))) >= 4  # one for each start of a worker


@pytest.fixture
def cluster():
    yield {
        "address": "local",
        "num_cpus": 2,
        "object_store_memory": 80_000_000,
        "include_dashboard": False,
    }
    ray.shutdown()


def test_what_a_worker_dies_of_is_recorded_and_ends_nothing_else(cluster, tmp_path):
    class Dies:
        """Dies of an item and answers the others; the second start fails."""

        def __init__(self, config, journals):
            from pathlib import Path

            self.log = Path(journals) / "log"
            self.write("start")
            if self.log.read_text().count("start") == 2:
                raise RuntimeError("out of memory, say")

        def write(self, word):
            with self.log.open("a") as file:
                file.write(f"{word} {os.getpid()}\n")

        def __call__(self, batch):
            import json
            import os
            import pickle
            import time

            items = [pickle.loads(one) for one in batch["item"]]
            for item in items:
                if item.id == "heldout-1":
                    time.sleep(0.5)  # others are open beside it
                    self.write(item.id)
                    os._exit(1)
            return {
                "record": [
                    json.dumps({"item": item.id, "seed": int(seed), "error": None})
                    for item, seed in zip(items, batch["seed"], strict=True)
                ]
            }

    config = overrides.compose_config(["task.limit=8", f"output={tmp_path}"])
    job = SweepJob.of(config)
    kept = []
    spread = Spread(workers=1, batch_size=2, batches_at_once=2, init=cluster, worker=Dies)
    spread.answer(config, job, [(item, 5) for item in job.task.load()], kept.append)
    failed = {one["item"]: one["error"] for one in kept if one["error"]}
    assert sorted(one["item"] for one in kept) == [f"heldout-{i}" for i in range(8)]
    assert failed.keys() == {"heldout-1"}
    assert all("all workers" in error["message"] for error in failed.values())
    lines = (tmp_path / "log").read_text().split()
    pids = [pid for word, pid in zip(lines[::2], lines[1::2], strict=True) if word == "heldout-1"]
    assert 1 < len(pids) <= 4
    assert len(set(pids)) == len(pids)


def test_an_engine_that_died_takes_its_worker_along(tmp_path):
    """So that Ray starts another; and an item that breaks in an unforeseen way has its error."""
    script = """
import json, pickle, sys
from omegaconf import OmegaConf
from eval import overrides, resolvers
from eval.distributed.worker import AlignerWorker
from rsalign import Aligner, Plain

class Breaks(Plain):
    async def sample(self, prompt, run):
        if items[1].messages[0].content in prompt.text:
            raise ZeroDivisionError("unforeseen")
        return await super().sample(prompt, run)

resolvers.register()
choice = ["strategy=plain", "reward=none", "task.limit=3"]
config = OmegaConf.to_container(overrides.compose_config(choice), resolve=True)
worker = AlignerWorker(config, sys.argv[1])
items = worker._job.task.load()
batch = {"item": [pickle.dumps(item) for item in items], "seed": [0, 0, 0]}
worker._aligner = Aligner(worker._aligner.policy, None, Breaks(max_tokens=8))
records = [json.loads(text) for text in worker(batch)["record"]]
print([record["error"] and record["error"]["message"] for record in records], flush=True)
worker._aligner.policy.engine._fail(RuntimeError("as after a crash"))
worker(batch)
print("it lives on", flush=True)
"""
    done = forked.run(
        (sys.executable, "-c", script, str(tmp_path)), cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("[None, 'Breaks raised ZeroDivisionError: unforeseen"), (
        done.stderr
    )
    assert done.stdout.endswith(", None]\n")
    assert done.returncode == 1
    assert "the engine is dead" in done.stderr


def test_what_is_spread_is_the_configuration_of_one_machine():
    config = overrides.compose_config(["strategy=cards", "workers=3"], "distributed")
    assert spread_of(config).workers == 3
    alone = overrides.compose_config(["strategy=cards"])
    assert of_one_machine(config) == alone
    assert hash_config(of_one_machine(config)) == hash_config(alone)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"batch_size": 0},
        {"batches_at_once": 0},
        {"cpus_per_worker": -1},
        {"gpus_per_worker": -0.5},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        Spread(**wrong)


def test_the_command_line_is_told_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'workers'"):
        overrides.check_overrides(["wokers=2"], "distributed")
    with pytest.raises(ConfigError, match="workers"):
        overrides.check_overrides(["workers=2"])  # of eval.run, which has none


def test_draws_that_items_share_are_refused_before_a_cluster_is_started():
    config = overrides.compose_config(["strategy=allocated", "task.limit=2"])
    with pytest.raises(ConfigError, match="Allocated shares its draws among all items"):
        Spread(workers=1).answer(config, SweepJob.of(config), [], print)
