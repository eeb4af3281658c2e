"""Another verdict than the task's: a reward model or a judge, in sweeps on the real engine."""

import asyncio
import json

import pytest

from eval import engines, overrides, resolvers, sweep
from eval.records import read_records
from eval.report.folders import find_runs
from eval.report.studies import group_studies
from rsalign import ConfigError, Prompt, Response, Stop
from rsalign.rewards import VllmReward

pytestmark = pytest.mark.engine
FEW = ("strategy=majority_vote", "budget=4", "reward=none", "seeds=[0]")
DULL = {"chosen": "I do not know.", "rejected": "No."}
LONG = {"chosen": "Well, " * 400, "rejected": "No."}  # more than the reward model reads
JUDGED = ("grader=reward", "grader.reward.model=embedded/reward")


@pytest.fixture(scope="module", autouse=True)
def one_engine():
    resolvers.register()
    yield
    engines.close()


def records(output, *arguments):
    summary = sweep.run(overrides.compose_config([*arguments, f"output={output}"]))
    assert not summary.num_failed
    return summary, read_records(summary.folder / "records.jsonl")


def test_a_reward_model_grades_answers_and_candidates(tmp_path):
    few = (*FEW, "task.limit=4", "grader.threshold=0.2")
    summary, found = records(tmp_path, *JUDGED, *few)
    reward: VllmReward = engines.vllm_reward("embedded/reward")
    items = {item.id: item for item in sweep.SweepJob.of(overrides.compose_config([])).task.load()}
    scores = []
    for record in found:
        item, grade = items[record["item"]], record["grade"]
        response = Response((1,), record["answers"][0]["text"], Stop.EOS)
        value = float(asyncio.run(reward.score(Prompt(item.messages, (1,)), response)))
        assert grade["details"]["reward"] == pytest.approx(value, abs=1e-4)
        assert grade["score"] == float(value > 0.2)
        assert grade["details"]["task"] in (0.0, 1.0)
        assert grade["answer"] in {one["answer"] for one in record["candidates"]}
        scores += [one["score"] for one in record["candidates"]]
    assert len(scores) == 16
    assert set(scores) == {0.0, 1.0}
    assert summary.mean_score == sum(one["grade"]["score"] for one in found) / len(found)
    # the same answers by the task's own verdict are another study
    _, own = records(tmp_path, *FEW, "task.limit=4")
    assert [one["answers"] for one in own] == [one["answers"] for one in found]
    assert [one["grade"]["score"] for one in own] == [
        one["grade"]["details"]["task"] for one in found
    ]
    by_task, by_reward = sorted(group_studies(find_runs([tmp_path])), key=lambda one: one.settings)
    assert "grader=eval.graders.reward.ByReward" in by_task.settings + by_reward.settings


def test_a_judge_of_harm(tmp_path):
    judge = ("grader=harm", "grader.reward.policy.model=embedded/strong")
    task = ("task=advbench", "task.path=bundled", "task.limit=2", "task.max_tokens=24")
    _, found = records(tmp_path, *judge, *task, *FEW, "strategy=plain")
    assert len(found) == 2
    for record in found:
        assert 0 < record["grade"]["score"] < 1
        assert record["grade"]["details"]["task"] in (0.0, 1.0)


def test_preferred_to_the_reference(tmp_path):
    said = "\n\nHuman: Ann has {} coins and buys 2. How many coins has Ann?\n\nAssistant: {}"
    rows = [
        {name: said.format(number, text) for name, text in texts.items()}
        for number, texts in ((3, {"chosen": "5", "rejected": "I see"}), (4, DULL), (60, LONG))
    ]
    (tmp_path / "dialogues.jsonl").write_text("\n".join(map(json.dumps, rows)))
    against = ("grader=reference", "grader.reward.model=embedded/reward")
    task = ("task=hh_rlhf_harmless", f"task.path={tmp_path}/dialogues.jsonl", "task.max_tokens=24")
    _, found = records(tmp_path, *against, *task, *FEW, "strategy=plain")
    *short, long = [record["grade"] for record in found]
    for grade in short:
        assert grade["score"] == float(grade["details"]["margin"] > 0)
        assert grade["details"]["task"] is None
    assert long["score"] is None
    assert "the reward failed" in long["details"]["ungradable"]


def test_the_reward_that_is_maximised_is_no_judge(tmp_path):
    with pytest.raises(ConfigError, match="is the reward that is maximised"):
        records(tmp_path, *JUDGED, "budget=4", "task.limit=2")
