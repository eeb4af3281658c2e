"""Layouts of published reward models in vLLM, each against plain torch; named by path and by id."""

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from reward_checkpoints import (
    GROUPED,
    as_hub_id,
    write,
    write_config,
    write_encoder,
)
from safetensors.torch import load_file, save_file
from server import Server
from test_transformers_reward import ANSWERS, ASKED, ENCODERS, ids, logits
from transformers import AutoTokenizer, Qwen2Model

from rsalign import ConfigError, Message, ProbabilityJudge, Prompt, Template
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.remote import RemoteReward
from rsalign.rewards.vllm import VllmReward

pytestmark = [pytest.mark.engine, pytest.mark.nightly]
SMALL = {"kv_cache_memory_bytes": 64 << 20}


def scores(folder, **settings):
    """In one batch, and again alone."""

    async def main(reward):
        together = await concurrently(reward.score(ASKED, answer) for answer in ANSWERS)
        alone = [await reward.score(ASKED, answer) for answer in ANSWERS]
        assert list(together) == pytest.approx(alone, abs=1e-4)
        return alone

    with closing(VllmReward.start(str(folder), **SMALL, **settings)) as reward:
        return asyncio.run(main(reward))


def write_qwen2_rm(folder):
    """Qwen2.5-Math-RM: two layers as head, and no number of labels in the configuration."""
    model = write(folder, "Qwen2", **GROUPED)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for name, shape in {
            "0.weight": (64, 64),
            "0.bias": 64,
            "2.weight": (1, 64),
            "2.bias": 1,
        }.items():
            weights[f"score.{name}"] = torch.randn(shape) / 8
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(
        folder, architectures=["Qwen2ForRewardModel"], id2label=None, label2id=None, num_labels=None
    )
    return model, weights


@torch.inference_mode()
def qwen2_rm_score(model, weights, answer, folder):
    assert isinstance(model.model, Qwen2Model)
    # transformers reads a tokenizer by the class that the type of the model has
    inputs = torch.tensor([ids(answer, lambda: AutoTokenizer.from_pretrained(folder))])
    hidden = model.model(inputs).last_hidden_state[0, -1]
    hidden = torch.relu(weights["score.0.weight"] @ hidden + weights["score.0.bias"])
    return (weights["score.2.weight"] @ hidden + weights["score.2.bias"]).item()


@pytest.mark.parametrize("backend", ["in_process", "async"])
def test_qwen2_for_reward_model(tmp_path, backend):
    model, weights = write_qwen2_rm(tmp_path)
    right = [qwen2_rm_score(model, weights, answer, tmp_path) for answer in ANSWERS]
    assert scores(tmp_path, backend=backend) == pytest.approx(right, abs=1e-4)


INTERNLM2 = """
from transformers import LlamaConfig

class InternLM2Config(LlamaConfig):
    model_type = "internlm2"
"""


def write_internlm2_rm(folder):
    """InternLM2-reward: a value head, read at a token that comes after the conversation.

    Its layers are Llama's under other names, with queries, keys and values in one matrix, the
    queries of each group before its key and value.
    """
    model = write(folder, "Llama", **GROUPED)
    old, new = model.state_dict(), {}
    new["model.tok_embeddings.weight"] = old["model.embed_tokens.weight"]
    new["model.norm.weight"] = old["model.norm.weight"]
    new["v_head.weight"] = old["score.weight"]
    for i in range(GROUPED["num_hidden_layers"]):
        was, now = f"model.layers.{i}.", f"model.layers.{i}."
        # one group of queries: the one matrix is their rows, then the key's and the value's
        whole = [old[f"{was}self_attn.{each}_proj.weight"] for each in "qkv"]
        new[f"{now}attention.wqkv.weight"] = torch.cat(whole)
        new[f"{now}attention.wo.weight"] = old[f"{was}self_attn.o_proj.weight"]
        for ours, theirs in {"w1": "gate", "w3": "up", "w2": "down"}.items():
            new[f"{now}feed_forward.{ours}.weight"] = old[f"{was}mlp.{theirs}_proj.weight"]
        new[f"{now}attention_norm.weight"] = old[f"{was}input_layernorm.weight"]
        new[f"{now}ffn_norm.weight"] = old[f"{was}post_attention_layernorm.weight"]
    new = {name: each.contiguous().clone() for name, each in new.items()}
    save_file(new, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(
        folder,
        architectures=["InternLM2ForRewardModel"],
        model_type="internlm2",
        bias=False,
        reward_token_id=9,
        id2label=None,
        label2id=None,
        auto_map={"AutoConfig": "configuration_own.InternLM2Config"},
    )
    (folder / "configuration_own.py").write_text(INTERNLM2)
    return model


def test_internlm2_for_reward_model(tmp_path):
    model = write_internlm2_rm(tmp_path)
    right = [logits(model, answer, 9).logits.item() for answer in ANSWERS]
    assert scores(tmp_path, trust_remote_code=True) == pytest.approx(right, abs=1e-4)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "ModernBert"])
def test_encoders_read_pairs(tmp_path, family):
    model = write_encoder(tmp_path, family, **ENCODERS[family])
    pairs = AutoTokenizer.from_pretrained(tmp_path)
    with torch.inference_mode():
        right = [
            model(**pairs(ASKED.text, answer.text, return_tensors="pt")).logits.item()
            for answer in ANSWERS
        ]
    assert scores(tmp_path) == pytest.approx(right, abs=1e-4)


def test_what_vllm_cannot_run_names_what_can(tmp_path):
    write(tmp_path, "Gemma3Text", head_dim=32, **GROUPED)
    with pytest.raises(ConfigError, match=r"use TransformersReward\('.*'\)"):
        VllmReward.start(str(tmp_path), **SMALL)


BY_ID = """
from test_layouts_on_the_engine import scores
from rsalign import ConfigError, Message, Prompt, ProbabilityJudge, Template

odds = {"log_odds": "good"}
for name, label in [("two", None), ("two", odds), ("silent", None), ("policy", None)]:
    name = f"org/{name}"
    try:
        print(*scores(name, label=label))
    except ConfigError as refused:
        print("refused:", " ".join(str(refused).split()))
"""


def test_models_that_are_named_by_id(tmp_path):
    """A cache of the Hub is laid out by hand; a process of its own reads it."""
    two = write(tmp_path / "two", "Llama", num_labels=2, **GROUPED)
    write_config(tmp_path / "two", id2label={"0": "bad", "1": "good"})
    silent = write(tmp_path / "silent", "Llama", **GROUPED)
    write_config(tmp_path / "silent", id2label=None, label2id=None)
    home = tmp_path / "home"
    for name, folder in [("two", "two"), ("silent", "silent")]:
        as_hub_id(tmp_path / folder, home, name)
    as_hub_id(POLICY, home, "policy")
    done = subprocess.run(
        [sys.executable, "-c", BY_ID],
        env=os.environ
        | {
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    several, odds, one, policy = done.stdout.splitlines()
    assert "num_labels=2 (0: 'bad', 1: 'good'), but a reward is one number" in several
    rows = [logits(two, answer).logits[0].tolist() for answer in ANSWERS]
    assert [float(each) for each in odds.split()] == pytest.approx(
        [row[1] - row[0] for row in rows], abs=1e-4
    )
    right = [logits(silent, answer).logits.item() for answer in ANSWERS]
    assert [float(each) for each in one.split()] == pytest.approx(right, abs=1e-4)
    assert "no head that scores" in policy


@pytest.mark.parametrize("backend", ["in_process", "async"])
def test_a_judge_whose_template_has_no_system_messages(tmp_path, backend):
    """As Gemma 2's; all templates of the package have a system message."""
    shutil.copytree(POLICY, tmp_path / "judge")
    template = tmp_path / "judge" / "chat_template.jinja"
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template.write_text(refuses + template.read_text())
    messages = (Message("user", "First 4 + 5"),)
    merged = Template.named("right")
    merged = replace(merged, system="", user=f"{merged.system}\n\n{merged.user}")
    with closing(VllmPolicy.start(str(tmp_path / "judge"), backend=backend, **SMALL)) as judge:
        asked = Prompt(messages, judge.encode_chat(messages))
        found = asyncio.run(ProbabilityJudge(judge).score(asked, ANSWERS[0]))
        right = asyncio.run(ProbabilityJudge(judge, merged).score(asked, ANSWERS[0]))
    assert found == pytest.approx(right, abs=1e-4)


def test_layouts_behind_a_server(tmp_path):
    """A reward model that scores tokens only, and a classifier with two labels."""
    model, weights = write_qwen2_rm(tmp_path)
    two = write(tmp_path / "two", "Llama", num_labels=2, **GROUPED)
    write_config(tmp_path / "two", id2label={"0": "bad", "1": "good"})
    started = [f"{folder} --runner pooling" for folder in (tmp_path, tmp_path / "two")]
    server = Server(tmp_path / "log", *started)
    try:
        by_token, by_label = server.addresses()
        with pytest.raises(ConfigError, match=r"num_labels=2 \(0: 'bad', 1: 'good'\)"):
            RemoteReward.connect(by_label)

        async def main(reward):
            return [await reward.score(ASKED, answer) for answer in ANSWERS]

        with closing(RemoteReward.connect(by_token)) as reward:
            found = asyncio.run(main(reward))
        right = [qwen2_rm_score(model, weights, answer, tmp_path) for answer in ANSWERS]
        assert found == pytest.approx(right, abs=1e-4)
        with closing(RemoteReward.connect(by_label, label={"log_odds": "good"})) as reward:
            found = asyncio.run(main(reward))
        rows = [logits(two, answer).logits[0].tolist() for answer in ANSWERS]
        assert found == pytest.approx([row[1] - row[0] for row in rows], abs=1e-4)
    finally:
        server.stop()
