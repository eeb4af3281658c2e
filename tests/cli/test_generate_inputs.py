"""Prompts in files as people have them."""

import bz2
import gzip
import io
import json
import lzma
import sys

import pyarrow
import pyarrow.parquet
import pytest

from rsalign import Aligner, ConfigError, Plain
from rsalign.cli.generate import read_items
from rsalign.cli.main import main
from rsalign.testing import ToyPolicy

# characters that str.splitlines() takes for ends of lines
ODD = "Ann\u2028has\u2029a\x85b\x0bc\x0cd\x1ce"
HELLO = [{"role": "user", "content": f"Hello {ODD}"}]
VALUES = [{"prompt": ODD}, {"messages": HELLO}, {"prompt_token_ids": [1, 2]}]


def read(path, *, chat=False):
    return [item.value for item in read_items(str(path), chat=chat)]


def as_lines(end="\n", *, ascii_only=False):
    lines = [json.dumps(value, ensure_ascii=ascii_only) for value in VALUES]
    return "".join(f"{line}{end}{end}" for line in lines)


FORMS = {
    "lines.jsonl": as_lines(),
    "lines.txt": as_lines(),
    "crlf.jsonl": as_lines("\r\n"),
    "escaped.jsonl": as_lines(ascii_only=True),
    "no_end.ndjson": as_lines().rstrip("\n"),
    "array.json": json.dumps(VALUES),
    "array.txt": "\n " + json.dumps(VALUES, indent=2, ensure_ascii=False),
    "array": json.dumps(VALUES),
    "objects.json": "\n".join(json.dumps(value, indent=1) for value in VALUES),
    "mixed.jsonl": json.dumps(VALUES[0])
    + "\n"
    + json.dumps(VALUES[1:], indent=1)[1:-1].replace("},\n {", "}\n {"),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


@pytest.mark.parametrize(
    "compress",
    [lambda raw: raw, gzip.compress, bz2.compress, lzma.compress],
    ids=["plain", "gzip", "bzip2", "xz"],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", FORMS)
def test_json_in_every_form_and_encoding(tmp_path, monkeypatch, name, encoding, compress):
    raw = compress(FORMS[name].encode(encoding))
    (tmp_path / name).write_bytes(raw)
    assert read(tmp_path / name) == VALUES
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert read("-") == VALUES


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_has_a_prompt_on_each_line(tmp_path, end, encoding):
    file = tmp_path / "prompts.txt"
    file.write_bytes(f"{ODD}{end}{end}  [INST] Hi [/INST]{end}[1] a list".encode(encoding))
    assert read(file) == [
        {"prompt": ODD},
        {"prompt": "  [INST] Hi [/INST]"},
        {"prompt": "[1] a list"},
    ]
    assert read(file, chat=True)[0] == {"messages": [{"role": "user", "content": ODD}]}


@pytest.mark.parametrize("text", ["[INST] Hi [/INST]\nx", "[1] is a source", "[[link]] is", "[x"])
def test_text_that_begins_with_a_bracket_is_text(tmp_path, text):
    (tmp_path / "prompts.txt").write_text(text)
    assert [value["prompt"] for value in read(tmp_path / "prompts.txt")] == text.split("\n")


def test_arrays_of_texts_and_of_conversations(tmp_path):
    file = tmp_path / "in.json"
    file.write_text(json.dumps([ODD, HELLO]))
    assert read(file) == [{"prompt": ODD}, {"messages": HELLO}]


def test_tables(tmp_path):
    rows = [{"prompt": ODD, "messages": None}, {"prompt": None, "messages": HELLO}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    cell = json.dumps(HELLO).replace('"', '""')
    (tmp_path / "in.csv").write_text(f'prompt,messages\r\n"{ODD}",\r\n,"{cell}"\r\n', newline="")
    (tmp_path / "long.csv").write_text(f"prompt,other\n{'x' * 200_000},1\n")
    (tmp_path / "in.tsv").write_text("prompt\tother\na, b\t1\n")
    assert read(tmp_path / "in.parquet") == [{"prompt": ODD}, {"messages": HELLO}]
    assert read(tmp_path / "in.csv") == [{"prompt": ODD}, {"messages": HELLO}]
    assert len(read(tmp_path / "long.csv")[0]["prompt"]) == 200_000
    assert read(tmp_path / "in.tsv")[0]["prompt"] == "a, b"


def test_a_table_with_two_columns_of_one_name(tmp_path):
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    table = pyarrow.table(columns, names=["prompt", "prompt"])
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ConfigError, match="'prompt' occurs 2 times: use each name once"):
        read(tmp_path / "in.parquet")


@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in"])
def test_a_conversation_alone_is_one_prompt_as_it_is_on_a_line(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(HELLO))
    assert read(tmp_path / name) == [{"messages": HELLO}]
    (tmp_path / name).write_text(json.dumps(HELLO) + "\n" + json.dumps(HELLO))
    assert read(tmp_path / name) == [{"messages": HELLO}] * 2


@pytest.mark.parametrize("name", ["in.jsonl", "in.txt"])
def test_files_that_were_joined_have_a_byte_order_mark_in_the_middle(tmp_path, name):
    lines = ['{"prompt": "a"}\n', '{"prompt": "b"}\n'] if name == "in.jsonl" else ["a\n", "b\n"]
    (tmp_path / name).write_bytes(b"".join(line.encode("utf-8-sig") for line in lines))
    assert read(tmp_path / name) == [{"prompt": "a"}, {"prompt": "b"}]


class Reading(ToyPolicy):
    """A toy policy that has a tokenizer."""

    def encode(self, text):
        return tuple(1 + ord(char) % 2 for char in text)

    def encode_chat(self, messages, **_):
        return self.encode("".join(message.content for message in messages))


def generate(source, *flags):
    policy = f"{__name__}:Reading"
    arguments = ["--policy", policy, "--strategy", "plain", "--max-tokens", "6", *flags]
    output = source.with_suffix(".out")
    assert main(["generate", str(source), *arguments, "-o", str(output)]) == 0
    records = [json.loads(line) for line in output.read_text().splitlines()]
    return sorted(records, key=lambda record: record["index"])


@pytest.mark.parametrize("flags", [(), ("--chat",)])
def test_columns_that_are_no_part_of_a_prompt_are_left_alone(tmp_path, flags):
    (tmp_path / "in.csv").write_text("prompt,answer,source,id\nabc,7,web,\nabd,8,book,\n")
    (tmp_path / "in.jsonl").write_text('{"prompt": "abc", "gold": [7]}\n{"prompt": "abd"}\n')
    first, second = generate(tmp_path / "in.csv", *flags), generate(tmp_path / "in.jsonl", *flags)
    assert [record["prompt"] for record in first] == ["abc", "abd"]
    assert [record["answer"] for record in first] == [record["answer"] for record in second]


@pytest.mark.parametrize("flags", [(), ("--chat",)])
def test_an_id_is_what_draws_are_called_by(tmp_path, flags):
    names = ["q1", 7, "07"]
    lines = [json.dumps({"prompt": "abc", "id": name}) for name in names] + ['{"prompt": "abc"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    (tmp_path / "turned.jsonl").write_text("\n".join([lines[3], *lines[:3]]))
    records = generate(tmp_path / "in.jsonl", *flags)
    turned = generate(tmp_path / "turned.jsonl", *flags)
    given = [{"prompt": "abc", "id": name} for name in [*names, 3]]
    with Aligner(Reading(), None, Plain(max_tokens=6)) as aligner:
        expected = [output.outputs[0].text for output in aligner.generate(given)]
    assert len(set(expected)) > 1
    assert [record["answer"] for record in records] == expected
    assert [record.get("id") for record in records] == [*names, None]
    assert [record["answer"] for record in turned[1:]] == expected[:3]


def test_a_prompt_with_token_ids_keeps_what_the_reward_reads(tmp_path):
    value = {"prompt_token_ids": [1], "messages": HELLO}
    (tmp_path / "in.jsonl").write_text(json.dumps(value))
    assert read(tmp_path / "in.jsonl") == read(tmp_path / "in.jsonl", chat=True) == [value]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"prompt": "a", "messages": []}\n', "line 1 has both"),
        (
            "a.jsonl",
            '{"prompt": "a", "messages": [{}]}\n',
            "line 1 has both 'prompt' and 'messages'",
        ),
        ("a.jsonl", '{"prompt": "a"}\n\n{"prompt": \n', "line 3 is not JSON"),
        ("a.txt", '[{"prompt": "a"},', "a.txt cannot be read as JSON: line 1 is not JSON"),
        ("a.json", "{", "a.json cannot be read as .json: line 1 is not JSON"),
        ("a.jsonl", '{"prompt": "a"}\n{"text": 1}', r"line 2 has neither .*but \['text'\]"),
        ("a.jsonl", '{"prompt": "a"}\n3', "line 2 is 3: give text, or an object"),
        ("a.json", '[{"prompt": "a"}, 3]', "row 2 is 3: give text, or an object"),
        ("a.csv", "text\nx\n", "row 1 has neither"),
        ("a.csv", "prompt\nx,y\n", "row 1 has more cells than the first line"),
        ("a.csv", "messages\n[x\n", r"row 1: messages='\[x' is not JSON"),
        ("a.txt", "caf\u00e9".encode("latin-1"), "cannot be read as .txt: .*save it as UTF-8"),
        ("a.gz", b"\x1f\x8b\x08broken", "cannot read .*a.gz"),
        ("a.parquet", b"PAR1 broken", "cannot be read as .parquet"),
        ("a.txt", "\n \n", "there is no prompt in .*a.txt"),
        ("a.jsonl", "[" * 100_000, "cannot be read as .jsonl"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "line 1 .*: 'prompt' occurs 2 times"),
        ("a.json", '[{"messages": [{"role": "user", "role": "user"}]}]', "'role' occurs 2 times"),
        ("a.csv", "prompt,prompt\na,b\n", "a.csv cannot be read .* 'prompt' occurs 2 times"),
        ("a.tsv", "id\tprompt\tid\na\tb\tc\n", "a.tsv cannot be read .* 'id' occurs 2 times"),
        ("a.jsonl", b"PK\x03\x04.", "cannot read .*a.jsonl: it is a zip archive"),
        ("a.zst", b"\x28\xb5\x2f\xfd.", "cannot read .*a.zst: it is compressed with Zstandard"),
        ("a.jsonl.xz", lzma.compress(b"{}" * 99)[:-9], "cannot read .*a.jsonl.xz: Compressed data"),
        ("a.jsonl", '{"prompt": "a", "temperature": 0.5}', "line 1 has 'temperature', which would"),
        ("a.csv", "prompt,n\na,3\n", "row 1 has 'n', which would say how it is answered"),
        ("a.jsonl", '{"prompt": "a", "tools": [{}]}', "line 1 has 'tools', which is for the chat"),
        ("a.jsonl", '{"prompt": "a", "id": 1.5}', "line 1: id=1.5: give text or a whole number"),
        ("a.jsonl", '{"prompt": "a", "id": true}', "line 1: id=True: give text or a whole number"),
        ("a.csv", "prompt,id\na,x\nb,x\n", "row 2 has the id 'x', as row 1 has: give each"),
        ("a.jsonl", '{"prompt": "a", "id": 1}\n{"prompt": "b"}', "line 2 has the id 1, as line 1"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, message):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match="is a folder: give the path of a file in it"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot read .*none.txt: .*No such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="cannot read a\0b: "):
        read("a\0b")
