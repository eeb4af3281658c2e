"""`rsalign generate` and `rsalign demo` as a user runs them: real processes, real engines."""

import json
import sys

import forked
import pytest

from rsalign.cli.main import main
from rsalign.core.errors import ConfigError
from rsalign.embedded.problems import problems
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.plain import Plain
from rsalign.words.build import build_strategy
from rsalign.words.read import split

ASKED = problems("heldout", 4)


def rsalign(*arguments, stdin=""):
    return forked.run(
        [sys.executable, "-m", "rsalign.cli.main", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.engine
def test_text_and_json_lines_mean_the_same(tmp_path):
    settings = ("--strategy", "best_of", "--set", "n=3", "--max-tokens", "64", "--seed", "5")
    text = rsalign(
        "generate", "-", "--chat", *settings, stdin="".join(f"{p.question}\n" for p in ASKED)
    )
    assert text.returncode == 0, text.stderr
    assert "%|" not in text.stderr, "a progress bar in a pipe"
    records = [json.loads(line) for line in text.stdout.splitlines()]
    assert sorted(r["index"] for r in records) == [0, 1, 2, 3]
    for record in records:
        assert record["prompt"] == ASKED[record["index"]].question
        assert record["answer"]
        assert record["usage"]["reward_calls"] == 3
        assert record["settings"] == {
            "class": "BestOf",
            "n": 3,
            "inner": {"class": "Plain", "max_tokens": 64, "measured": False},
            "select": {"class": "Hard"},
        }

    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [{"messages": [{"role": "user", "content": p.question}]} for p in ASKED]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = rsalign("generate", str(source), "-o", str(target), *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    again = [json.loads(line) for line in target.read_text().splitlines()]
    answers = {r["index"]: (r["answer"], r["reward"]) for r in records}
    assert {r["index"]: (r["answer"], r["reward"]) for r in again} == answers


@pytest.mark.engine
def test_demo():
    done = rsalign("demo", "--problems", "5")
    assert done.returncode == 0, done.stderr
    assert "5 held-out problems" in done.stdout
    for row in ("plain", "best of 4", "best of 16"):
        assert any(line.startswith(row) for line in done.stdout.splitlines())
    assert done.stdout.count("Candidates, best first") == 3


@pytest.mark.engine
def test_rewards():
    """The example of every reward runs."""
    done = rsalign("rewards")
    assert done.returncode == 0, done.stderr
    rows = {
        line[:28].strip(): [float(value) for value in line[28:].split()]
        for line in done.stdout.splitlines()
        if len(line) == 28 + 4 * 10 and "answer" not in line
    }
    assert len(rows) == 21
    assert rows["VllmReward"] == pytest.approx(rows["TransformersReward"], abs=2e-3)
    assert rows["VllmReward"] == rows["Cached"] == rows["Metered"] == rows["Journaled"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "no-such-file"], "cannot read no-such-file: "),
        (["generate", "--strategy", "best-of"], "did you mean 'best_of'?"),
        (["generate", "--set", "N=3"], "has no parameter 'N'"),
        (["generate", "--set", "n"], "give name=value"),
        (["generate", "--set", "n=0"], "of at least 1"),
        (["generate", "--budget-seconds", "-1"], "finite number above 0"),
        (["generate", "--temperature", "-1"], "temperature=-1.0"),
        (["generate", "--strategy", "json:JSONDecoder"], "is not a strategy"),
    ],
)
def test_wrong_usage(arguments, says, capsys):
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_input_is_checked_line_by_line(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "1"}\n{"text": "2"}\n')
    done = rsalign("generate", str(source))
    assert done.returncode == 2
    assert "line 2 has neither" in done.stderr
    assert rsalign("generate", "-").returncode == 2
    assert rsalign("unknown").returncode == 2


def test_strategies_by_name():
    assert build_strategy("plain", {"max_tokens": 9}) == Plain(max_tokens=9)
    nested = build_strategy(
        "best_of", dict(split(["n=2", "inner=best_of", "inner.inner.max_tokens=5"], "--set"))
    )
    assert nested == BestOf(n=2, inner=BestOf(inner=Plain(max_tokens=5)))
    own = build_strategy("rsalign.strategies.best_of:BestOf", {"n": 3})
    assert own == BestOf(n=3)
    with pytest.raises(ConfigError, match="cannot load"):
        build_strategy("no.such.module:X", {})


@pytest.mark.engine
def test_one_prompt_that_fails_costs_the_others_nothing(tmp_path):
    """Half a surrogate pair, which JSON can hold and no tokenizer reads."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "First"}\n{"prompt": "a \\ud83d"}\n{"prompt": "Next"}\n')
    done = rsalign("generate", str(source), "-o", str(target), "--max-tokens", "8")
    assert done.returncode == 1
    assert "line 2: prompt 1: " in done.stderr
    assert "half of a surrogate pair" in done.stderr
    assert "1 of 3 prompts failed" in done.stderr
    assert "Traceback" not in done.stderr
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert sorted(record["index"] for record in records) == [0, 2]


def test_a_record_can_be_written_whatever_its_text(tmp_path, capfd):
    from rsalign.cli.records import Records

    with Records(str(tmp_path / "out"), ["a run"]) as records:
        records.write(0, {"index": 0, "prompt": "a \ud83d"})
    assert json.loads((tmp_path / "out").read_text())["prompt"] == "a \ud83d"
    with Records("-", ["a run"]) as records:
        records.write(0, {"index": 0, "prompt": "a \ud83d"})
    assert json.loads(capfd.readouterr().out)["prompt"] == "a \ud83d"


@pytest.mark.parametrize("index", ['"0"', "-1", "null", "0.5", "[0]"])
def test_a_file_of_other_records_is_refused_whatever_they_are(tmp_path, index):
    from rsalign.cli.records import Records

    (tmp_path / "out").write_text(f'{{"index": {index}, "run": "a run"}}\n')
    with pytest.raises(ConfigError, match="holds something else than records"):
        Records(str(tmp_path / "out"), ["a run"])
