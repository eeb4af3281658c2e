"""What trackers wrote, read back from disk by other means than they wrote it with."""

import json
import struct
import sys
import time

import pytest
from omegaconf import OmegaConf

from eval import overrides, resolvers, sweep
from eval.records import read_records
from eval.trackers.figures import flatten_config, summarize_records
from rsalign import InstallError

PACKAGES = {"mlflow": "mlflow", "tensorboard": "tensorboardX", "wandb": "wandb"}


@pytest.fixture(autouse=True, scope="module")
def known():
    resolvers.register()


def composed(output, *choices):
    """A configuration on toy models, whose words are numbers: no engine starts."""
    rows = [{"question": text, "answer": "#### 1"} for text in ("1", "2 1", "1 1 2")]
    path = output / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ["task=gsm8k", f"task.path={path}", "+task.instruction=''", "task.max_tokens=4"]
    config = overrides.compose_config([*choices, *task, f"output={output}", "seeds=[0,1]"])
    OmegaConf.set_struct(config, False)
    config.policy = {"_target_": "rsalign.testing.ToyPolicy", "vocab": 3}
    config.reward = {"_target_": "rsalign.testing.ToyReward"}
    return config


def mlflow_runs(output):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"{output}/mlruns")
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
    return {
        run.data.tags["rsalign.config"]: (run.info.run_name, run.data.params, run.data.metrics)
        for run in client.search_runs([experiment.experiment_id])
    }


def tensorboard_runs(output):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    found = {}
    for folder in (output / "tensorboard").iterdir():
        events = EventAccumulator(str(folder)).Reload()
        started = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = parse_session_start_info_plugin_data(started).hparams
        name, _, key = folder.name.rpartition("-")
        found[key] = (
            name,
            {setting: value.string_value for setting, value in settings.items()},
            {tag: one.value for tag in events.Tags()["scalars"] for one in events.Scalars(tag)},
        )
    return found


def wandb_records(data):
    """Of a run's file, which is a LevelDB log behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the block is padded
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def wandb_runs(output):
    found = {}
    for path in sorted((output / "wandb").glob("offline-run-*/run-*.wandb")):
        settings, shown = {}, {}
        for record in wandb_records(path.read_bytes()):
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
                for item in record.run.config.update:
                    settings[item.key or item.nested_key[0]] = json.loads(item.value_json)
            elif record.WhichOneof("record_type") == "history":
                for item in record.history.item:
                    shown[item.key or item.nested_key[0]] = json.loads(item.value_json)
        found[path.stem.removeprefix("run-")] = (name, settings, shown)
    return found


READ = {"mlflow": mlflow_runs, "tensorboard": tensorboard_runs, "wandb": wandb_runs}


def test_there_are_trackers():
    assert {path.stem for path in (overrides.CONF / "tracker").glob("*.yaml")} == {"none", *READ}


@pytest.mark.parametrize("tracker", READ)
def test_a_sweep_is_found_again_on_disk(tracker, tmp_path):
    jobs = {
        strategy: composed(tmp_path, f"tracker={tracker}", f"strategy={strategy}", "budget=4")
        for strategy in ("plain", "best_of")
    }
    folders = {
        strategy: sweep.run(config, f"strategy={strategy}").folder
        for strategy, config in jobs.items()
    }
    if tracker == "wandb":  # its folders are named by the second: two of one id would be one
        time.sleep(1.0)
    sweep.run(jobs["plain"], "strategy=plain")  # again: it replaces what was shown
    found = READ[tracker](tmp_path)
    assert set(found) == {folder.name for folder in folders.values()}
    for strategy, folder in folders.items():
        name, settings, shown = found[folder.name]
        assert name == f"strategy={strategy}"
        expected = flatten_config(OmegaConf.to_container(jobs[strategy], resolve=True))
        assert expected["task.max_tokens"] == "4"
        assert settings.items() >= expected.items()
        truth = summarize_records(read_records(folder / "records.jsonl"))
        assert truth["num_items"] == 6
        assert truth["num_failed"] == 0
        assert truth.keys() >= {"mean_score", "mean_reward", "seed_1/mean_policy_tokens_drawn"}
        assert {key: shown[key] for key in truth} == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("tracker", READ)
def test_a_tracker_that_fails_costs_nothing_but_itself(tracker, tmp_path, caplog):
    config = composed(tmp_path, f"tracker={tracker}")
    name = {"mlflow": "uri"}.get(tracker, "folder")
    (tmp_path / "file").write_text("where a folder should be")
    config.tracker[name] = str(tmp_path / "file")
    summary = sweep.run(config)
    assert "tracker failed" in caplog.text
    assert (summary.num_records, summary.num_failed) == (6, 0)
    assert len(read_records(summary.folder / "records.jsonl")) == 6
    assert (summary.folder / "records.parquet").exists()


@pytest.mark.parametrize(("tracker", "package"), PACKAGES.items())
def test_a_missing_package_is_named_before_an_engine_starts(
    tracker, package, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    engine = ["policy=vllm", f"policy.model={tmp_path}/nowhere"]  # would be refused when started
    config = overrides.compose_config([f"tracker={tracker}", f"output={tmp_path}", *engine])
    with pytest.raises(InstallError, match=rf"tracker={tracker}: install {package}"):
        sweep.run(config)
    assert not list(tmp_path.iterdir())


def test_figures_are_of_what_was_answered_and_graded():
    def one(seed, score, reward, tokens):
        return {
            "seed": seed,
            "error": None,
            "grade": {"score": score},
            "answers": [{"reward": reward}],
            "usage": {"policy_tokens_drawn": tokens, "reward_calls": 2, "seconds": 0.5},
        }

    failed = {"seed": 1, "error": {"kind": "PolicyError"}, "grade": None, "answers": []}
    found = summarize_records(
        [one(0, 1.0, 0.5, 10), one(0, 0.0, 1.5, 20), one(1, None, None, 60), failed]
    )
    assert found == {
        "num_items": 4,
        "num_failed": 1,
        "num_ungradable": 1,
        "mean_score": 0.25,
        "mean_reward": 1.0,
        "mean_policy_tokens_drawn": 30,
        "mean_reward_calls": 2,
        "mean_seconds": 0.5,
        "seed_0/num_items": 2,
        "seed_0/num_failed": 0,
        "seed_0/num_ungradable": 0,
        "seed_0/mean_score": 0.5,
        "seed_0/mean_reward": 1.0,
        "seed_0/mean_policy_tokens_drawn": 15,
        "seed_0/mean_reward_calls": 2,
        "seed_0/mean_seconds": 0.5,
        "seed_1/num_items": 2,
        "seed_1/num_failed": 1,
        "seed_1/num_ungradable": 1,
        "seed_1/mean_policy_tokens_drawn": 60,
        "seed_1/mean_reward_calls": 2,
        "seed_1/mean_seconds": 0.5,
    }
