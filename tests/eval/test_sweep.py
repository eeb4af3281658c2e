"""Sweeps on the real engine, killed for real and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pyarrow.parquet
import pytest
import toy_study

from eval import engines, overrides, resolvers, sweep
from eval.records import read_records
from rsalign.core.journal import Journal

ROOT = Path(__file__).parents[2]
STRATEGIES = ("qalign", "best_of")
FEW = ("budget=4", "task.limit=5", "seeds=[0,1]")
THREE = ("task.limit=3", "seeds=[0]")


@pytest.fixture(scope="module", autouse=True)
def one_engine():
    """This process starts its engines once, as a local sweep does."""
    resolvers.register()
    yield
    engines.close()


def answer(output, *arguments):
    return sweep.run(overrides.compose_config([*arguments, f"output={output}"]))


def start(output):
    return forked.Popen(
        (sys.executable, "-m", "eval.run", "-m", f"strategy={','.join(STRATEGIES)}", *FEW)
        + (f"output={output}",),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def table(output):
    """All records of a sweep without what depends on timing, by folder."""
    return {
        (path.parent.name, record["item"], record["seed"]): toy_study.timeless(record)
        for path in sorted(Path(output).glob("*/records.jsonl"))
        for record in read_records(path)
    }


def parquet(output):
    """The same from the Parquet files."""
    found = {}
    for path in sorted(Path(output).glob("*/records.parquet")):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            nested = {"strategy", "answers", "grade", "usage", "diagnostics", "candidates"}
            nested |= {"proposals", "host", "warnings", "fingerprints", "batch"}
            record = {n: json.loads(v) if n in nested else v for n, v in row.items()}
            found[path.parent.name, row["item"], row["seed"]] = toy_study.timeless(record)
    return found


def num_lines(output):
    return sum(len(path.read_bytes().splitlines()) for path in Path(output).glob("*/records.jsonl"))


def journal(output):
    """The whole lines of the journal, its first one left out."""
    path = Path(output) / "draws.journal"
    return path.read_bytes().split(b"\n")[1:-1] if path.exists() else []


def requests(output):
    return [json.loads(line)[0] for line in journal(output)]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    output = tmp_path_factory.mktemp("untouched")
    for strategy in STRATEGIES:
        summary = answer(output, f"strategy={strategy}", *FEW)
        assert (summary.num_records, summary.num_failed) == (10, 0)
    return output


def test_one_record_for_each_configuration_item_and_seed(untouched):
    found = table(untouched)
    assert len(found) == num_lines(untouched) == 2 * 5 * 2
    assert all(record["error"] is None for record in found.values())
    assert {record["grade"]["score"] for record in found.values()} <= {0.0, 1.0}
    assert parquet(untouched) == found


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "shares", [(0.4,), pytest.param((0.1, 0.4, 0.7), marks=pytest.mark.nightly)], ids=len
)
def test_killed_at_any_moment_it_ends_the_same(untouched, tmp_path, shares):
    """In the first chains, between records, and in the last chains; each draw is paid for once."""
    whole = len(journal(untouched))
    kills, kept = 0, []
    for share in shares:
        process = start(tmp_path)
        while process.poll() is None and len(journal(tmp_path)) < share * whole:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert journal(tmp_path)[: len(kept)] == kept  # nothing is lost
        kept = journal(tmp_path)
    answered = num_lines(tmp_path)
    process = start(tmp_path)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert kills >= len(shares) - (len(shares) > 1)
    assert table(tmp_path) == parquet(tmp_path) == table(untouched)
    assert num_lines(tmp_path) == num_lines(untouched)
    assert journal(tmp_path)[: len(kept)] == kept
    assert len(set(requests(tmp_path))) == len(requests(tmp_path))
    assert set(requests(tmp_path)) == set(requests(untouched))
    lines = [
        json.loads(line)
        for path in tmp_path.glob("*/records.jsonl")
        for line in path.read_bytes().splitlines()
    ]
    continued = [record for record in lines if record["usage"]["replayed"]]
    assert len(lines) > answered
    assert continued  # what was in the middle of a chain or pool went on there


def test_the_same_configuration_again_does_nothing(untouched):
    files = [path for path in untouched.rglob("*") if path.suffix in (".jsonl", ".journal")]
    assert len(files) == 3
    before = [path.stat().st_mtime_ns for path in files]
    again = answer(untouched, f"strategy={STRATEGIES[0]}", *FEW)
    assert (again.num_records, again.num_failed) == (10, 0)
    assert [path.stat().st_mtime_ns for path in files] == before


def test_answers_that_another_tool_judges_are_written_for_it(tmp_path):
    texts = ("Ann has 1 egg.", "Ann has 2 eggs.", "Ann has eggs. " * 200)  # the last is too long
    rows = [{"instruction": text, "output": "x", "dataset": "own"} for text in texts]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    task = ("task=alpaca_eval", f"task.path={tmp_path / 'rows.json'}", "task.max_tokens=32")
    summary = answer(tmp_path, "strategy=best_of", "budget=4", *task, "seeds=[0,7]")
    assert (summary.num_records, summary.num_failed, summary.mean_score) == (6, 2, None)
    assert pyarrow.parquet.read_table(summary.folder / "records.parquet").num_rows == 6
    records = [one for one in read_records(summary.folder / "records.jsonl") if one["answers"]]
    for seed in (0, 7):
        file = summary.folder / f"model_outputs-BestOf-{summary.folder.name[:8]}-{seed}.json"
        written = json.loads(file.read_text(encoding="utf-8"))
        assert [one["instruction"] for one in written] == [*texts[:2]]
        answers = [one["answers"][0]["text"] for one in records if one["seed"] == seed]
        assert [one["output"] for one in written] == answers


def test_rewards_of_other_settings_are_not_replayed(tmp_path):
    """Both polarities judge the same draws, which one journal has."""
    steered = ("task=sentiment", "reward=sentiment", "strategy=best_of", "budget=4", *THREE)
    rewards = {}
    for polarity in ("positive", "negative"):
        summary = answer(tmp_path, *steered, f"task.polarity={polarity}")
        assert summary.num_failed == 0
        rewards[polarity] = [
            candidate["reward"]
            for record in read_records(summary.folder / "records.jsonl")
            for candidate in record["candidates"]
        ]
    assert any(rewards["positive"])
    assert rewards["negative"] == [-reward for reward in rewards["positive"]]


def test_a_journal_of_its_own_has_what_the_shared_one_has(tmp_path):
    plain = ("strategy=plain", "budget=1", *THREE)
    folder = answer(tmp_path, *plain).folder
    before = table(tmp_path)
    (folder / "records.jsonl").unlink()
    with Journal(tmp_path / "draws.journal"):
        answer(tmp_path, *plain)
    assert (folder / "draws.journal").read_bytes().count(b"\n") == 1  # nothing was drawn again
    assert table(tmp_path) == before


def test_a_job_that_had_a_journal_of_its_own_goes_on_with_it(tmp_path):
    """As under a parallel launcher, where another process may have had the shared one."""
    plain = ("strategy=plain", "budget=1", *THREE)
    with Journal(tmp_path / "draws.journal"):
        folder = answer(tmp_path, *plain).folder
    own = (folder / "draws.journal").read_bytes()
    before = table(tmp_path)
    (folder / "records.jsonl").unlink()  # as if killed before the first record
    answer(tmp_path, *plain)
    assert (folder / "draws.journal").read_bytes() == own
    assert not journal(tmp_path)
    assert table(tmp_path) == before
    assert all(record["usage"]["replayed"] for record in read_records(folder / "records.jsonl"))


def test_a_sweep_costs_its_largest_point(tmp_path):
    """Sizes and selectors choose from one pool: what it has is neither drawn nor judged again."""
    answer(tmp_path, "strategy=best_of", "budget=4", *THREE)
    small = journal(tmp_path)
    answer(tmp_path, "strategy=best_of", "budget=16", *THREE)
    drawn = journal(tmp_path)
    assert drawn[: len(small)] == small
    selectors = ("majority_vote", "soft", "reward_weighted_vote", "minimum_bayes_risk")
    for strategy in selectors:
        for budget in (4, 16):
            answer(tmp_path, f"strategy={strategy}", f"budget={budget}", *THREE)
    assert journal(tmp_path) == drawn
    draws = [found for found in map(json.loads, drawn) if isinstance(found[1][0], list)]
    assert len(draws) == 16 * 3
    by_size = {4: [], 16: []}
    for path in tmp_path.glob("*/records.jsonl"):
        for record in read_records(path):
            pool = [(c["reward"], c["log_prob"]) for c in record["candidates"]]
            by_size[len(pool)].append((record["item"], pool))
    assert {size: len(pools) for size, pools in by_size.items()} == {4: 15, 16: 15}
    largest = dict(by_size[16])
    for item, pool in by_size[4] + by_size[16]:
        assert pool == largest[item][: len(pool)]


def test_items_that_share_draws_are_answered_together_also_when_continued(tmp_path):
    arguments = ("strategy=allocated", "strategy.total=11", *THREE)
    answer(tmp_path, *arguments)
    whole = table(tmp_path)
    draws = [record["diagnostics"]["num_draws"] for record in whole.values()]
    assert (len(draws), sum(draws)) == (3, 11)
    [path] = tmp_path.glob("*/records.jsonl")
    first, *_ = path.read_text().splitlines(keepends=True)
    path.write_text(first)
    answer(tmp_path, *arguments)
    assert table(tmp_path) == whole
