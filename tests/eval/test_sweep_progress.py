"""How many jobs a sweep has, how far it is, and about how long it lasts."""

import time

import pytest

from eval import overrides, progress
from eval.progress import Progress, count_aloud, end_job, start_sweep


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        ([], 1),
        (["strategy=plain"], 1),
        (["strategy=plain,best_of", "budget=1,4,16"], 6),
        (["experiment=study"], 40),
        (["experiment=study", "budget=1,4"], 16),
        (["strategy=qalign", "strategy.beta=interval(0.3,1.5)"], None),
    ],
)
def test_number_of_jobs(arguments, jobs):
    assert overrides.count_jobs(overrides.quote_numbers(arguments)) == jobs


def test_jobs_are_counted_across_processes_and_runs(tmp_path, monkeypatch):
    (tmp_path / "progress.log").write_text("1.0 2.0 1\n")  # of a run before
    for name in ("RSALIGN_SWEEP_JOBS", "RSALIGN_SWEEP_PROGRESS"):
        monkeypatch.setenv(name, "")
    start_sweep(tmp_path, 4)
    end_job(tmp_path, time.time() - 5, had_answers_to_draw=True)
    found = end_job(tmp_path, time.time(), had_answers_to_draw=False)
    assert (found.num_jobs, found.num_done, len(found.fresh)) == (4, 2, 1)
    assert found.seconds_left == pytest.approx(2 * found.fresh[0])
    start_sweep(tmp_path, 1)
    assert end_job(tmp_path, time.time(), had_answers_to_draw=True) is None


def test_jobs_beside_each_other_take_less_time():
    assert Progress(6, 2, (100.0, 100.0), 100.0).seconds_left == 200
    assert Progress(6, 2, (100.0, 100.0), 200.0).seconds_left == 400
    assert Progress(6, 2, (), 0.0).seconds_left is None


def test_answers_are_counted_where_no_bar_shows_them(monkeypatch, caplog):
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False)
    kept = []
    counted = count_aloud(kept.append, 5)
    with caplog.at_level("INFO"):
        for i in range(5):
            counted({"item": i})
    assert [record["item"] for record in kept] == list(range(5))
    assert [message.split(",")[0] for message in caplog.messages] == [
        "2 of 5 answers",
        "4 of 5 answers",
    ]
