"""Wrong settings of a sweep are refused before any work; one odd record costs no other."""

import json

import numpy as np
import pytest
import toy_study

from eval import overrides, resolvers, sweep
from eval.job import SweepJob
from eval.record import make_record, to_json
from eval.records import RecordFile, read_records, write_parquet
from rsalign import Aligner, ConfigError
from rsalign.strategies.plain import Plain
from rsalign.testing import ToyPolicy


@pytest.fixture(autouse=True)
def known_words():
    resolvers.register()


def job(*arguments):
    return SweepJob.of(overrides.compose_config(list(arguments)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["seeds=[0,0]"], "one occurs twice"),
        (['seeds=["1",1]'], "one occurs twice"),
        (["seeds=[]"], "give a list of whole numbers"),
        (["seeds=3"], "give a list of whole numbers"),
        (["seeds=[a]"], "seeds"),
        (["seeds=[0.5]"], "seeds"),
        (["journal=maybe"], "journal"),
        (["tokens=maybe"], "tokens"),
        (["reward=none"], "BestOf asks for rewards"),
        (["reward=vllm"], "reward.model"),
        (["policy=vllm"], "policy.model"),
        (["grader=reward"], "grader"),
        (["reward=vllm", "reward.model=x", "+reward.modle=y"], "did you mean 'model'"),
    ],
)
def test_wrong_settings_are_refused_before_an_engine_starts(arguments, says):
    with pytest.raises(ConfigError, match=says):
        job(*arguments)


def test_settings_mean_what_they_mean_at_other_doors():
    made = job('seeds=["1",0]', "journal='false'", "tokens='true'")
    assert (made.seeds, made.shares_journal, made.tokens) == ((1, 0), False, True)
    assert job("strategy=plain", "reward=none").strategy is not None


def test_numbers_may_be_text_wherever_a_dataclass_is_configured():
    made = job('strategy.n="4"', 'task.limit="3"', "task.start='2'")
    assert (made.strategy.n, made.task.limit, made.task.start) == (4, 3, 2)
    with pytest.raises(ConfigError, match=r"limit='three'.*whole number"):
        job("task.limit=three")


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    config = overrides.compose_config([f"output={tmp_path / 'file'}", "task.limit=1"])
    with pytest.raises(ConfigError, match="cannot be written to"):
        sweep.run(config)


class Notes(Plain):
    """A strategy of one's own that notes whatever it has."""

    async def sample(self, prompt, run):
        run.trace.note(single=np.float32(1.5))
        run.trace.note(table=[np.int64(3), float("nan")])
        run.trace.note(odd=object)
        return await super().sample(prompt, run)


def test_an_odd_note_costs_no_record(tmp_path):
    strategy, item = Notes(max_tokens=3), toy_study.ITEMS[0]
    with Aligner(ToyPolicy(3), None, strategy) as aligner:
        [output] = aligner.generate([{"prompt": "1", "id": item.id}], use_tqdm=False)
    one = make_record(
        output,
        item,
        None,
        toy_study.grades(output),
        config="",
        task="",
        strategy=strategy,
        budget=None,
    )
    with RecordFile(tmp_path / "records.jsonl") as file:
        file.append(one)
    [kept] = read_records(tmp_path / "records.jsonl")
    assert kept["diagnostics"]["single"] == 1.5
    assert kept["diagnostics"]["table"] == [3, None]
    assert "object" in kept["diagnostics"]["odd"]


def test_json_data_has_no_infinity():
    odd = {"a": (float("inf"), {"b": -float("inf")}), 3: np.array([1.0, np.nan]), "c": np.bool_(1)}
    assert to_json(odd) == {"a": [None, {"b": None}], "3": [1.0, None], "c": True}
    json.dumps(to_json(odd), allow_nan=False)


def test_a_seed_of_many_digits_is_text_in_a_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [{"item": "a", "seed": seed} for seed in (1, 10**30)]
    write_parquet(records, tmp_path / "records.parquet")
    table = parquet.read_table(tmp_path / "records.parquet")
    assert table["seed"].to_pylist() == ["1", str(10**30)]
