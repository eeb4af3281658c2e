"""Files that grow: one writer at a time, between processes too, and whole after a kill."""

import json
import multiprocessing
import subprocess
import sys

import pytest

from eval.records import RecordFile, replace_file
from rsalign import ConfigError
from rsalign.cli.records import Records
from rsalign.core.append_only import AppendOnlyFile, hold_lock
from rsalign.core.journal import Journal

HOLD = """
import sys
from pathlib import Path
from eval.records import RecordFile
from rsalign.core.append_only import AppendOnlyFile
from rsalign.cli.records import Records
from rsalign.core.journal import Journal
kinds = {{
    "file": lambda path: AppendOnlyFile(path, "the file"),
    "journal": Journal,
    "output": lambda path: Records(str(path), ["run"]),
    "records": RecordFile,
}}
held = kinds[{kind!r}](Path({path!r}))
print("held", flush=True)
sys.stdin.read()
"""
KINDS = {
    "file": lambda path: AppendOnlyFile(path, "the file"),
    "journal": Journal,
    "output": lambda path: Records(str(path), ["run"]),
    "records": RecordFile,
}


def holder(kind, path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(kind=kind, path=str(path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_is_refused_until_the_first_has_ended(tmp_path, kind):
    path = tmp_path / "file"
    process = holder(kind, path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"in use.*by another process"):
        KINDS[kind](path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="in use"):
        KINDS[kind](link)
    assert path.read_bytes() == before
    process.kill()  # however it ends
    process.wait()
    with KINDS[kind](path), pytest.raises(ConfigError, match="in use"):
        KINDS[kind](path)  # nor twice in one process
    with KINDS[kind](path):
        pass


def test_a_refused_file_is_not_kept_locked(tmp_path):
    path = tmp_path / "file"
    path.write_text('"something else"\n')
    for kind in ("journal", "output", "records"):
        with pytest.raises(ConfigError, match="file"):
            KINDS[kind](path)
        AppendOnlyFile(path, "the file").close()
    assert path.read_text() == '"something else"\n'


def test_a_torn_line_is_dropped_and_the_others_stay(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthr")
    with AppendOnlyFile(path, "the file") as file:
        assert file.lines() == [b"one", b"two"]
        file.append(b"three")
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path):
    import resource

    path = tmp_path / "file"
    with AppendOnlyFile(path, "the file") as file:
        file.append(b"one")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(OSError, match="only a part of a line"):
                file.append(b"two and much more")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        file.append(b"three")
    assert path.read_bytes() == b"one\nthree\n"


def _write_records(folder, name, barrier):
    """Opens one output together with others, and writes a record if it may."""
    barrier.wait()
    try:
        with Records(str(folder / "out.jsonl"), ["run"]) as records:
            for index in records.missing:
                records.write(index, {"index": index, "by": name})
    except ConfigError:
        (folder / f"refused-{name}").touch()


def _count(folder, name, times):
    for _ in range(times):
        with hold_lock(folder / "lock"):
            number = int((folder / "number").read_text())
            with replace_file(folder / "number") as partial:
                partial.write_text(str(number + 1))


def together(target, arguments):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0


def test_two_writers_never_write_two_records_of_a_prompt(tmp_path):
    barrier = multiprocessing.get_context("spawn").Barrier(2)
    together(_write_records, [(tmp_path, "one", barrier), (tmp_path, "two", barrier)])
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == [0]


def test_who_waits_for_a_lock_sees_what_the_other_wrote(tmp_path):
    (tmp_path / "number").write_text("0")
    together(_count, [(tmp_path, name, 20) for name in ("one", "two")])
    assert (tmp_path / "number").read_text() == "40"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock", "number"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "table"
    path.write_text("before")
    with pytest.raises(FileNotFoundError), replace_file(path) as partial:
        partial.with_name("gone").rename(partial)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["table"]
