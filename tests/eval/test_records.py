"""Files of records: nothing lost or doubled, wherever they were cut; and what a record has."""

import json

import pyarrow.parquet
import pytest
import toy_study

from eval import host
from eval.records import SCHEMA, RecordFile, read_records, write_parquet
from rsalign import BestOf, Budget, Cards, ConfigError, FixedSize, Key, Plain, Usage
from rsalign.segments.thresholds import Constant

BEST = BestOf(n=4, inner=Plain(max_tokens=toy_study.MAX_TOKENS))
CARDS = Cards(
    segmenter=FixedSize(2),
    threshold=Constant(value=9.0),
    max_tokens=toy_study.MAX_TOKENS,
    max_tries=3,
)


@pytest.fixture(scope="module")
def records():
    return toy_study.answer(BEST)


def written(path, records):
    with RecordFile(path) as file:
        for one in records:
            if (one["item"], one["seed"]) not in file.done:
                file.append(one)
    return path


def test_a_record_says_everything(records):
    for record in records:
        assert (record["schema"], record["config"], record["task"]) == (SCHEMA, "toy", "toy")
        assert record["strategy"]["class"] == "BestOf"
        assert set(record["usage"]) == set(Usage().spent())
        usage = record["usage"]
        candidates, [answer] = record["candidates"], record["answers"]
        assert usage["policy_tokens_drawn"] == sum(one["num_tokens"] for one in candidates)
        assert usage["policy_tokens_kept"] == answer["num_tokens"]
        # the answer is one of what was considered, and as probable
        assert answer["log_prob"] in [one["log_prob"] for one in candidates]
        assert usage["reward_calls"] == usage["policy_requests"] == len(candidates) == 4
        assert usage["seconds"] > 0
        assert usage["replayed"] == 0
        assert answer["reward"] == max(one["reward"] for one in candidates)
        assert record["grade"].keys() == {"score", "answer", "details"}
        assert record["diagnostics"]["rewards"] == [one["reward"] for one in candidates]
        assert sum(one["verdict"] == "accepted" for one in record["proposals"]) == 1
        assert record["host"] == host.read_facts()
        assert {"rsalign", "commit", "python", "machine", "num_cpus"} <= set(record["host"])
    assert json.loads(json.dumps(records, allow_nan=False)) == records  # strict JSON


def test_what_was_given_up_or_cut_short_is_on_record():
    forced = toy_study.answer(CARDS, seeds=(0,))
    assert any(record["forced"] for record in forced)
    assert {one["verdict"] for record in forced for one in record["proposals"]} >= {
        "forced",
        "rejected",
    }
    cut = toy_study.answer(BEST, seeds=(0,), budget=Budget(reward_calls=2))
    assert all(record["expired"] and record["budget"]["reward_calls"] == 2 for record in cut)
    assert all(record["usage"]["reward_calls"] == 2 for record in cut)


def test_replayed_answers_are_the_same_and_say_so(tmp_path, records):
    for expected in (0, 4):
        again = toy_study.answer(BEST, journal=tmp_path / "journal")
        assert {record["usage"]["replayed"] for record in again} == {expected}
        for one, other in zip(again, records, strict=True):
            assert toy_study.timeless(one) == toy_study.timeless(other)


@pytest.mark.parametrize("seed", range(8))
def test_a_file_cut_anywhere_goes_on(tmp_path, records, seed):
    path = written(tmp_path / "records.jsonl", records)
    whole = path.read_bytes()
    cut = Key(seed).below(len(whole))
    path.write_bytes(whole[:cut])
    with RecordFile(path) as file:
        assert len(file.done) == whole[:cut].count(b"\n")
    written(path, records)
    assert path.read_bytes() == whole
    assert read_records(path) == sorted(records, key=lambda one: (one["item"], one["seed"]))


def test_what_failed_is_tried_again_and_counts_once(tmp_path, records):
    path = tmp_path / "records.jsonl"
    failed = {**records[0], "answers": [], "grade": None, "error": {"kind": "X", "message": "y"}}
    written(path, [failed, *records[1:]])
    with RecordFile(path) as file:
        assert len(file.done) == len(records) - 1
    written(path, records)
    assert len(path.read_bytes().splitlines()) == len(records) + 1  # appended, never rewritten
    assert len(read_records(path)) == len(records)
    assert not any(record["error"] for record in read_records(path))


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "records.jsonl"
    with RecordFile(path), pytest.raises(ConfigError, match="being written by another process"):
        RecordFile(path)
    RecordFile(path).__exit__(None, None, None)


@pytest.mark.parametrize("line", ["{}", '{"schema": 1}', "[1]", "no JSON"])
def test_records_of_another_version_are_refused(tmp_path, line):
    path = tmp_path / "records.jsonl"
    path.write_text(line + "\n")
    for reader in (read_records, RecordFile):
        with pytest.raises(ConfigError, match=r"records\.jsonl"):
            reader(path)
    assert path.read_text() == line + "\n"


def test_a_damaged_line_costs_what_it_held_alone(tmp_path, records, caplog):
    path = written(tmp_path / "records.jsonl", records)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:97] + b"\x00" + lines[1][98:]
    path.write_bytes(b"".join(lines))
    assert len(read_records(path)) == len(records) - 1
    assert "line 2 is damaged" in caplog.text
    written(path, records)
    assert read_records(path) == sorted(records, key=lambda one: (one["item"], one["seed"]))


def test_parquet_has_all_that_the_lines_have(tmp_path, records):
    path = tmp_path / "records.parquet"
    for _ in range(2):  # also over an older one
        write_parquet(records, path)
    rows = pyarrow.parquet.read_table(path).to_pylist()
    nested = {name for name, value in records[0].items() if isinstance(value, dict | list)}
    assert {"usage", "host", "candidates"} <= nested
    for row, record in zip(rows, records, strict=True):
        assert {n: json.loads(v) if n in nested else v for n, v in row.items()} == record
    assert [file.name for file in tmp_path.iterdir()] == ["records.parquet"]
