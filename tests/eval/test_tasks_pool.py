"""Graders that hang, crash, raise or eat memory; and the real one that hangs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

import eval
from eval.tasks.arithmetic import Arithmetic
from eval.tasks.math500 import Math500
from eval.tasks.pool import GradingPool, shared_grades
from eval.tasks.protocol import Grade, Item
from rsalign import ConfigError, InstallError, Message


@dataclass(frozen=True)
class Unruly:
    """Does what the text says."""

    name: ClassVar[str] = "unruly"
    stop: ClassVar[tuple[str, ...]] = ()
    extract: ClassVar[None] = None
    max_tokens: int = 1
    prepares: str = "fine"

    def load(self):
        return [Item(id=str(i), messages=(Message("user", "?"),)) for i in range(3)]

    def prepare(self):
        if self.prepares == "slow":
            time.sleep(3)
        elif self.prepares == "missing":
            raise InstallError("it needs a package that is not there")
        elif self.prepares == "die":
            os._exit(3)

    def grade(self, item, text):
        if text == "hang":
            while True:
                pass
        elif text == "raise":
            raise ValueError("x" * 9999)
        elif text == "recurse":
            return self.grade(item, text)
        elif text == "die":
            os._exit(7)
        elif text == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif text == "eat":
            bytearray(3 << 30)
        elif text == "lie":
            return "a perfect answer"
        return Grade(score=1, answer=f"{item.id} {text}", details={"process": os.getpid()})


TASK = Unruly()
ITEM, OTHER, LAST = TASK.load()


def test_whatever_a_grader_does_the_others_are_graded_in_order():
    answers = [
        (ITEM, "fine"),
        (ITEM, "hang"),
        (OTHER, "raise"),
        (OTHER, "fine"),
        (LAST, "die"),
        (ITEM, "recurse"),
        (LAST, "kill"),
        (LAST, "lie"),
        (LAST, "eat"),
        (LAST, "fine"),
    ]
    with GradingPool(TASK, num_workers=2, timeout_seconds=4, memory_gib=2) as pool:
        grades = pool.grade(answers)
    told = [grade.answer or grade.details["ungradable"] for grade in grades]
    assert [grade.score for grade in grades] == [1, None, None, 1, *[None] * 5, 1]
    assert told[0] == "0 fine"
    assert told[1] == "the grader took longer than 4 seconds"
    assert told[2].startswith("the grader raised ValueError: xxx")
    assert len(told[2]) < 300
    assert told[3] == "1 fine"
    assert told[4] == "the grader's process ended with exit code 7"
    assert told[5].startswith("the grader raised RecursionError")
    assert told[6] == "the grader's process ended with exit code -9"
    assert told[7] == "the grader returned 'a perfect answer', which is no Grade"
    assert told[8].startswith("the grader raised MemoryError")
    assert told[9] == "2 fine"


def test_what_is_known_is_not_graded_again():
    """Nor in another pool of the same task, in which no process could even start."""
    answers = [(ITEM, "fine"), (LAST, "fine"), (ITEM, "fine")]
    with GradingPool(TASK, known=shared_grades(Unruly())) as pool:
        grades = pool.grade(answers)
    assert [grade.answer for grade in grades] == ["0 fine", "2 fine", "0 fine"]
    with GradingPool(Unruly(prepares="missing"), known=shared_grades(TASK)) as pool:
        assert pool.grade(answers) == grades
        with pytest.raises(InstallError):
            pool.grade([(LAST, "raise")])
    assert not shared_grades(Unruly(prepares="missing"))


def test_grades_are_those_of_the_task():
    task = Arithmetic(limit=8)
    answers = [
        (item, f"Answer: {item.gold['answer'] + i % 2}") for i, item in enumerate(task.load())
    ]
    with GradingPool(task) as pool:
        grades = pool.grade(answers)
    assert grades == [task.grade(item, text) for item, text in answers]
    assert [grade.score for grade in grades] == [1, 0] * 4


def test_a_tower_of_powers_does_not_stop_a_study():
    task = Math500(path="bundled", limit=2)
    item = task.load()[1]
    assert item.gold == "p - q"
    with GradingPool(task, num_workers=1, timeout_seconds=6) as pool:
        hard, easy = pool.grade([(item, r"\boxed{10^{10^{10}}}"), (item, r"\boxed{-q + p}")])
    assert (hard.score, hard.answer) == (0, "10^{10^{10}}")  # it is not computed
    assert easy.score == 1


def test_time_to_prepare_does_not_count():
    with GradingPool(Unruly(prepares="slow"), num_workers=1, timeout_seconds=2) as pool:
        assert [grade.score for grade in pool.grade([(ITEM, "fine")] * 2)] == [1, 1]


def test_a_missing_package_is_an_error_and_no_grade():
    with GradingPool(Unruly(prepares="missing")) as pool:
        for _ in range(2):
            with pytest.raises(InstallError, match="needs a package"):
                pool.grade([(ITEM, "fine")])
    with (
        GradingPool(Unruly(prepares="die")) as pool,
        pytest.raises(ConfigError, match=r"could not be prepared in a process: .* exit code 3"),
    ):
        pool.grade([(ITEM, "fine")])


def test_one_process_does_as_long_as_it_is_enough():
    with GradingPool(TASK, num_workers=4) as pool:
        used = {pool.submit(ITEM, "fine").result().details["process"] for _ in range(5)}
    assert len(used) == 1


def test_a_process_that_died_in_between_is_no_answers_fault():
    with GradingPool(TASK, num_workers=1) as pool:
        first = pool.submit(ITEM, "fine").result().details["process"]
        process = psutil.Process(first)
        process.kill()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        second = pool.submit(ITEM, "fine").result()
    assert second.score == 1
    assert second.details["process"] != first


def test_closing_ends_everything_at_once():
    pool = GradingPool(TASK, num_workers=1, timeout_seconds=100)
    used = pool.submit(ITEM, "fine").result().details["process"]
    hanging, waiting = pool.submit(ITEM, "hang"), pool.submit(ITEM, "fine")
    pool.close()
    for future in (hanging, waiting):
        with pytest.raises(ConfigError, match="closed"):
            future.result()
    with pytest.raises(ConfigError, match="closed"):
        pool.submit(ITEM, "fine")
    assert not psutil.pid_exists(used) or not psutil.Process(used).is_running()


def test_a_caller_who_no_longer_waits_leaves_the_pool_whole():
    async def leave(pool):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.wrap_future(pool.submit(ITEM, "hang"))
        return await asyncio.wrap_future(pool.submit(ITEM, "fine"))

    with GradingPool(TASK, num_workers=1, timeout_seconds=2) as pool:
        assert asyncio.run(leave(pool)).score == 1


ORPHAN = """
import os, signal, sys, time
from test_tasks_pool import ITEM, TASK
from eval.tasks.pool import GradingPool, shared_grades
import eval.tasks.worker

eval.tasks.worker._GRACE_SECONDS = 0  # here and in the grader's process

if __name__ == "__main__":
    pool = GradingPool(TASK, num_workers=1, timeout_seconds=1)
    print(pool.submit(ITEM, "fine").result().details["process"], flush=True)
    pool.submit(ITEM, "hang" if sys.argv[1:] else "fine")
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("busy", [[], ["busy"]], ids=["idle", "busy"])
def test_nothing_survives_a_killed_study(tmp_path, busy):
    """Idle processes see that nobody asks; busy ones end at their time limit."""
    script = tmp_path / "study.py"
    script.write_text(ORPHAN)
    paths = [str(Path(__file__).parent), str(Path(eval.__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, script, *busy],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == -signal.SIGKILL
    grader = int(done.stdout)
    while psutil.pid_exists(grader) and psutil.Process(grader).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)  # for ever, if it does not end: the test's own limit then tells


@pytest.mark.parametrize(
    "settings", [{"num_workers": 0}, {"timeout_seconds": 0}, {"memory_gib": -1}]
)
def test_settings(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        GradingPool(TASK, **settings)


def test_a_task_that_cannot_travel_is_refused():
    with pytest.raises(ConfigError, match="cannot go to another process"):
        GradingPool(Unruly(prepares=lambda: None))
