"""Given answers are weighed by the policy's own law, in a sweep on the real engine."""

import json
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval import engines, overrides, resolvers, sweep
from eval.records import read_records
from eval.report.folders import find_runs
from eval.report.studies import group_studies
from rsalign import ConfigError
from rsalign.embedded import POLICY

pytestmark = pytest.mark.engine
TASK = ("task=truthfulqa_choices", "task.path=bundled", "task.limit=3")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The embedded policy with a context that these prompts fit into."""
    resolvers.register()
    folder = tmp_path_factory.mktemp("model") / "policy"
    shutil.copytree(POLICY, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    yield str(folder)
    engines.close()


def run(output, *arguments):
    return sweep.run(overrides.compose_config([*arguments, f"output={output}"]))


def test_choices_have_the_probabilities_that_transformers_gives_them(model, tmp_path):
    policy = ("policy=vllm", f"policy.model={model}")
    summary = run(tmp_path, *TASK, *policy, "strategy=choices", "reward=none", "seeds=[0,1]")
    assert (summary.num_records, summary.num_failed) == (6, 0)
    records = read_records(summary.folder / "records.jsonl")
    task = sweep.SweepJob.of(overrides.compose_config([*TASK, "strategy=choices"])).task
    tokenizer, network = AutoTokenizer.from_pretrained(model), network_of(model)
    for item in task.load():
        first, second = [record for record in records if record["item"] == item.id]
        assert first["diagnostics"] == second["diagnostics"]  # nothing is drawn
        start = tokenizer(item.text).input_ids
        right = []
        for choice in task.choices(item):
            whole = tokenizer(item.text + choice).input_ids
            with torch.inference_mode():
                law = network(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            right.append(math.fsum(law[i - 1, whole[i]] for i in range(len(start), len(whole))))
        assert first["diagnostics"]["log_probs"] == pytest.approx(right, abs=1e-3)
        assert first["grade"]["score"] == task.grade_choices(item, right).score
        assert first["answers"][0]["text"] == task.choices(item)[right.index(max(right))]
        assert first["usage"]["policy_tokens_drawn"] == 0
    (study,) = group_studies(find_runs([tmp_path]))
    assert [one.method for one in study.configurations] == ["Choices"]


def network_of(model):
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def test_what_does_not_fit_is_a_record_that_says_so(tmp_path):
    summary = run(tmp_path, *TASK, "strategy=choices")
    assert (summary.num_records, summary.num_failed, summary.mean_score) == (3, 3, None)


@pytest.mark.parametrize("arguments", [TASK, ("strategy=choices",)])
def test_they_belong_together(tmp_path, arguments):
    with pytest.raises(ConfigError, match="strategy=choices"):
        run(tmp_path, *arguments)
