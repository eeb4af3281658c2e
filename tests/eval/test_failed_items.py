"""One item that fails is one failed item, whatever fails on it."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest

from eval import overrides, resolvers, run, sweep
from eval.grading import Grading
from eval.records import SCHEMA, RecordFile, read_records, write_parquet
from eval.tasks.pool import GradingPool
from eval.tasks.protocol import Grade, Item
from rsalign import Aligner, Message, Plain
from rsalign.testing import ToyPolicy

ROOT = Path(__file__).parents[2]


class NativePanic(BaseException):
    """No `Exception`."""


@dataclasses.dataclass
class Raises:
    """A grader that raises."""

    failure: type[BaseException]

    async def grade(self, item, prompt, response):
        raise self.failure


@dataclasses.dataclass(frozen=True)
class Exits:
    """A task whose grader ends its process, or tries to."""

    name: str = "exits"
    extract: None = None

    def prepare(self):
        pass

    def grade(self, item, text):
        if text == "exit":
            raise SystemExit(3)
        return Grade(score=1.0)


@pytest.mark.parametrize("failure", [KeyError, SystemExit, NativePanic, StopIteration])
def test_an_item_that_cannot_be_graded(failure, tmp_path):
    resolvers.register()
    job = sweep.SweepJob.of(overrides.compose_config([]))
    items = {name: Item(id=name, messages=(Message("user", "1"),)) for name in "ab"}
    with Aligner(ToyPolicy(4), None, Plain(max_tokens=3)) as aligner:
        outputs = aligner.generate([{"prompt": "1", "id": name} for name in items])
    records = []
    with Grading(Exits(), Raises(failure)) as bad, Grading(Exits()) as good:
        for grading, output in zip((bad, good), outputs, strict=True):
            records.append(job.record(output, items[output.request_id], grading))
    assert [record["error"] is None for record in records] == [False, True]
    assert failure.__name__ in records[0]["error"]["message"] or failure is StopIteration
    with RecordFile(tmp_path / "records.jsonl") as file:
        for record in records:
            file.append(record)
        assert set(file.done) == {("b", 0)}  # the other is answered again


def test_a_grader_that_ends_its_process_is_one_ungradable_answer():
    item = Item(id="a", messages=(Message("user", "1"),))
    with GradingPool(Exits(), num_workers=1) as pool:
        grades = pool.grade([(item, "right"), (item, "exit"), (item, "right too")])
    assert [grade.score for grade in grades] == [1.0, None, 1.0]


def test_a_record_can_be_written_whatever_its_text(tmp_path):
    record = {"schema": SCHEMA, "item": "a", "seed": 0, "error": None, "fingerprints": {}}
    record["prompt"] = "a \ud83d"
    with RecordFile(tmp_path / "records.jsonl") as file:
        file.append(record | {"answers": [{"text": "\ud83d"}]})
    (found,) = read_records(tmp_path / "records.jsonl")
    assert found["prompt"] == "a \ud83d"
    write_parquet([found], tmp_path / "records.parquet")


def sweep_of(output, *choices):
    resolvers.register()
    arguments = [
        *("policy=vllm", "policy.model=failing_parts:Policy", "reward=vllm", "task.limit=12"),
        *("strategy=best_of", "budget=1", f"output={output}", *choices),
    ]
    return sweep.run(overrides.compose_config(overrides.quote_numbers(arguments)))


@pytest.mark.parametrize("reward", ["exits", "interrupts", "returns_nan"])
def test_a_reward_that_fails_on_some_answers_costs_those_items_alone(reward, tmp_path):
    summary = sweep_of(tmp_path, f"reward.model=failing_parts:{reward}")
    records = read_records(summary.folder / "records.jsonl")
    failed = [record for record in records if record["error"] is not None]
    assert len(records) == 12
    assert 0 < len(failed) == summary.num_failed < 12
    assert all(reward in record["error"]["message"] for record in failed)


def test_a_grader_that_fails_on_some_answers_leaves_those_ungradable(tmp_path):
    grader = ("grader=reward", "grader.reward.model=failing_parts:exits")
    summary = sweep_of(tmp_path, "reward.model=failing_parts:good", *grader)
    records = read_records(summary.folder / "records.jsonl")
    untold = [record for record in records if record["grade"]["score"] is None]
    assert (summary.num_failed, len(records)) == (0, 12)
    assert 0 < len(untold) < 12


def test_a_job_that_fails_is_one_line_and_the_others_go_on(tmp_path, capfd):
    """Also jobs of which single answers failed are told, and the exit status says it."""
    arguments = (
        *("policy=vllm", "policy.model=failing_parts:Policy", "reward=vllm", "task.limit=4"),
        "reward.model=failing_parts:good,failing_parts:nope,failing_parts:exits",
        *("strategy=best_of", "budget=1", f"output={tmp_path / 'out'}"),
    )
    done = forked.run(
        (sys.executable, "-m", "eval.run", "-m", *arguments),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "eval")))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    told = [line for line in done.stdout.splitlines() if line.startswith("eval.run: failed: ")]
    assert len(told) == 2
    assert "cannot load reward.model 'failing_parts:nope': AttributeError" in told[0]
    assert "1 of 4 answers failed, the first: item" in told[1]
    assert len(list((tmp_path / "out").glob("*/records.jsonl"))) == 2


def test_an_output_that_cannot_be_written_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.run", "output=/proc/none"])
    assert run.main() == 2
    assert capsys.readouterr().err.startswith("eval.run: output='/proc/none' cannot be written to")
