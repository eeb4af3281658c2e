import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import eval
from eval.tasks.protocol import Item, require_distinct_ids
from eval.tasks.rows import column, read_rows
from rsalign import ConfigError, Message

ROWS = [
    {"question": "1 + 1?\u2028", "answer": "zwei\n#### 2"},
    {"question": "ü", "answer": "#### 3"},
]


def write(file, rows=ROWS):
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    kind = "".join(file.suffixes)
    if kind == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == ".jsonl":
        file.write_text(lines, encoding="utf-8")
    elif kind == ".jsonl.gz":
        file.write_bytes(gzip.compress(lines.encode()))
    elif kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        text = 'question,answer\r\n"1 + 1?\u2028","zwei\n#### 2"\r\nü,#### 3\r\n'
        file.write_text(text, encoding="utf-8-sig", newline="")
    return file


def read(path, split="test", limit=None, **more):
    return read_rows(str(path), split=split, limit=limit, **more)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
def test_every_format_reads_the_same(tmp_path, name):
    file = write(tmp_path / name)
    assert read(file) == ROWS
    assert read(tmp_path) == ROWS
    assert read(file, limit=1) == ROWS[:1]


@pytest.mark.parametrize(
    "name", ["test.jsonl", "base-test.jsonl.gz", "TEST_v1.json", "test-00000-of-1.json"]
)
def test_a_folder_is_asked_for_the_split(tmp_path, name):
    write(tmp_path / name)
    write(tmp_path / "train.jsonl", ROWS[:1])
    write(tmp_path / "latest.jsonl", ROWS[:1])
    (tmp_path / "README.md").write_text("no data")
    assert read(tmp_path) == ROWS
    assert read(tmp_path, split="train") == ROWS[:1]


def test_an_ambiguous_folder_is_refused(tmp_path):
    write(tmp_path / "one.jsonl")
    write(tmp_path / "other.csv")
    with pytest.raises(ConfigError, match=r"\['one.jsonl', 'other.csv'\].*give the path"):
        read(tmp_path)
    write(tmp_path / "test.a.json")
    write(tmp_path / "test.b.json")
    with pytest.raises(ConfigError, match="give the path"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{", "cannot be read as .jsonl"),
        ("a.json", "3", "cannot be read as .json"),
        ("a.jsonl", "\n", "no rows"),
        ("a.csv", b"\xff\xfe\xfa", "cannot be read as .csv"),
        ("a.txt", "x", "must end in one of"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, message):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name)


def test_what_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"no such file or folder, and it is no Hugging Face id"):
        read("no/such/file.jsonl")
    with pytest.raises(ConfigError, match="licence does not let it be bundled"):
        read("bundled")


def test_columns():
    assert column({"b": None, "c": 2}, "a", "b") is None
    with pytest.raises(ConfigError, match="no column 'x' or 'y', but 'b', 'c'"):
        column({"b": 1, "c": 2}, "x", "y")


def test_ids_must_differ():
    same = [Item(id="a", messages=(Message("user", "?"),))] * 2
    with pytest.raises(ConfigError, match="1 ids occur more than once, the first is 'a'"):
        require_distinct_ids(same)


HUB = """
import sys
from pathlib import Path
from datasets import Dataset, DatasetInfo, SplitDict, SplitInfo
from datasets.arrow_writer import ArrowWriter

folder = Path(sys.argv[1]) / "owner___name" / "main" / "0.0.0" / "0123456789abcdef"
folder.mkdir(parents=True)
rows = [{"question": "1 + 1?", "answer": "#### 2"}]
writer = ArrowWriter(path=str(folder / "name-test.arrow"))
for row in rows:
    writer.write(row)
num_examples, num_bytes = writer.finalize()
info = DatasetInfo(
    features=Dataset.from_list(rows).features,
    builder_name="parquet",
    dataset_name="name",
    config_name="main",
    version="0.0.0",
    splits=SplitDict({"test": SplitInfo("test", num_bytes, num_examples, dataset_name="name")}),
)
info.write_to_directory(str(folder))
from eval.tasks.gsm8k import Gsm8k
from rsalign import ConfigError

(item,) = Gsm8k(path="owner/name").load()
print(item.messages[0].content.startswith("1 + 1?"), item.gold)
try:
    Gsm8k(path="owner/other").load()
except ConfigError as refused:
    print(refused)
"""


def test_a_hugging_face_id_is_read_through_its_cache(tmp_path):
    root = Path(eval.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_DATASETS_CACHE": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(root),
        },
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "True 2"
    assert "'owner/other': there is no such file or folder, and the Hugging Face data" in rest[-1]
