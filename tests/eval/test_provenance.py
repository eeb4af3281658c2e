"""What changes under the same name is answered again: rows of data, code, files of models."""

import importlib
import json
import shutil
import sys

import pytest
import toy_study

from eval import engines, overrides, resolvers, sweep
from eval.analysis.timing import mark_timed
from eval.records import read_records
from rsalign import BestOf, ConfigError, Plain

REWARD = "def reward(prompt, response):\n    return {}float(len(response))\n"
POLICY = "from rsalign.testing import ToyPolicy\n\ndef policy():\n    return ToyPolicy({})\n"
ROWS = [{"instruction": text, "output": "1", "dataset": "own"} for text in ("1", "2", "1 1", "1 2")]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of one's own, with a reward, a policy and prompts."""
    resolvers.register()
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "own_reward.py", REWARD.format(""))
    write(tmp_path / "own_policy.py", POLICY.format(3))
    write(tmp_path / "prompts.json", json.dumps(ROWS))
    yield tmp_path
    engines.close()


def write(path, text):
    path.write_text(text)
    # of the same size and second, what Python compiled before would count as current
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    for name in ("own_reward", "own_policy"):  # a later run is another process
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    engines.close()


def answer(own, *choices):
    arguments = [
        *("policy=vllm", "policy.model=own_policy:policy"),
        *("reward=vllm", "reward.model=own_reward:reward"),
        *("task=alpaca_eval", f"task.path={own}/prompts.json", "task.max_tokens=4"),
        *("strategy=best_of", "budget=4", "journal=false", f"output={own}/out", *choices),
    ]
    return sweep.run(overrides.compose_config(overrides.quote_numbers(arguments)))


def times(folder):
    """How often each item was answered, and the records that count."""
    lines = (folder / "records.jsonl").read_text().splitlines()
    answered = [json.loads(line)["item"] for line in lines]
    records = read_records(folder / "records.jsonl")
    return [answered.count(record["item"]) for record in records], records


def test_the_same_again_does_nothing(own):
    folder = answer(own).folder
    assert answer(own).folder == folder
    assert times(folder)[0] == [1, 1, 1, 1]


def test_a_changed_row_is_answered_again_and_the_others_are_not(own, caplog):
    first = answer(own).folder
    rows = [ROWS[0] | {"instruction": "2 2"}, *ROWS[1:]]
    write(own / "prompts.json", json.dumps(rows))
    again = answer(own).folder
    assert again == first
    assert "in 1 of 4 records the item's text or gold is another than now" in caplog.text
    answered, records = times(again)
    assert answered == [2, 1, 1, 1]
    [judged] = again.glob("model_outputs-*.json")
    by_instruction = {one["instruction"]: one["output"] for one in json.loads(judged.read_text())}
    assert by_instruction.keys() == {row["instruction"] for row in rows}
    assert by_instruction["2 2"] == records[0]["answers"][0]["text"]
    assert records[0]["prompt"] == "2 2"


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("own_reward.py", REWARD.format("-"), "reward"),
        ("own_policy.py", POLICY.format(4), "policy"),
    ],
)
def test_changed_code_is_noticed(own, caplog, file, text, part):
    folder = answer(own).folder
    before = times(folder)[1]
    write(own / file, text)
    answer(own)
    assert f"in 4 of 4 records the content of the {part} is another than now" in caplog.text
    answered, after = times(folder)
    assert answered == [2, 2, 2, 2]
    assert [one["answers"] for one in before] != [one["answers"] for one in after]


def test_a_model_that_was_trained_further_is_another(own):
    """The files of a model are compared, before any engine starts."""
    model = own / "model"
    model.mkdir()
    (model / "config.json").write_text('{"num_labels": 1}')
    choices = ["reward.model=" + str(model)]
    found = []
    for text in ("1", "1", "2"):
        (model / "weights.bin").write_text(text)
        config = overrides.compose_config(
            [*("policy=vllm", "policy.model=own_policy:policy", "reward=vllm"), *choices]
        )
        found.append(sweep.Provenance.of(config, [], []).parts["reward"])
    assert found[0] == found[1] != found[2]


def test_a_part_that_cannot_be_imported_is_told_before_an_engine_starts(own):
    with pytest.raises(ConfigError, match=r"reward\.model='own_reward:rewrad' "):
        answer(own, "reward.model=own_reward:rewrad", "policy=embedded")


def test_seconds_are_those_of_whole_runs():
    """Not of runs that went on after a stop, nor of those whose draws were replayed."""
    records = toy_study.answer(BestOf(n=2, inner=Plain(max_tokens=toy_study.MAX_TOKENS)))
    assert all(record["timed"] for record in mark_timed(records))
    stopped = [record for record in records if record["seed"] == 0][:-2] + [
        record for record in records if record["seed"] == 1
    ]
    assert [one["timed"] for one in mark_timed(stopped)] == [one["seed"] == 1 for one in stopped]
    continued = [{**one, "batch": one["batch"] | {"is_whole": one["seed"] == 0}} for one in records]
    assert [one["timed"] for one in mark_timed(continued)] == [one["seed"] == 0 for one in records]
    replayed = [dict(one) for one in records]
    replayed[0]["usage"] = replayed[0]["usage"] | {"replayed": 1}
    assert [one["timed"] for one in mark_timed(replayed)] == [
        one["seed"] != replayed[0]["seed"] for one in records
    ]
