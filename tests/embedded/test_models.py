"""The shipped models are what their README says, measured on the real engine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import language_model, tokenizer
from transformers import AutoConfig

from rsalign import BestOf, Plain
from rsalign.embedded import MODELS, POLICY, REWARD, STRONG
from rsalign.embedded.problems import problems

NUM_PROBLEMS, NUM_DRAWS = 100, 16


@pytest.fixture(scope="module")
def pools(aligner):
    """Rewards and gradings of a pool of draws for each problem, (problems, draws)."""
    asked = problems("heldout", NUM_PROBLEMS)
    answers = aligner.chat(
        [[{"role": "user", "content": p.question}] for p in asked],
        strategy=BestOf(n=NUM_DRAWS, inner=Plain(max_tokens=128)),
    )
    pools = [[x.candidate for x in answer.alignment.trace.proposals] for answer in answers]
    rewards = np.array([[c.reward for c in pool] for pool in pools])
    right = np.array(
        [[p.grade(c.response.text) for c in pool] for p, pool in zip(asked, pools, strict=True)]
    )
    return rewards, right


@pytest.mark.engine
def test_the_policy_is_right_now_and_then(pools):
    _, right = pools
    assert 0.3 <= right.mean() <= 0.6


@pytest.mark.engine
def test_the_reward_can_choose_within_a_prompt(pools):
    """100 problems leave a standard error of about 0.02; the README has the figure of more."""
    values = []
    for rewards, right in zip(*pools, strict=True):
        if right.any() and not right.all():
            difference = rewards[right][:, None] - rewards[~right][None, :]
            values.append((difference > 0).mean() + 0.5 * (difference == 0).mean())
    assert np.mean(values) >= 0.75


@pytest.mark.engine
def test_best_of_n_helps(pools):
    """Paired over problems: best of 8 against one draw, 2 standard errors."""
    rewards, right = pools
    groups = rewards.reshape(NUM_PROBLEMS, 2, 8).argmax(-1)[..., None]
    best = np.take_along_axis(right.reshape(NUM_PROBLEMS, 2, 8), groups, -1)[..., 0].mean(1)
    gain = best - right.mean(1)
    assert gain.mean() > 2 * gain.std() / NUM_PROBLEMS**0.5


def test_architectures():
    kinds = {POLICY: "LlamaForCausalLM", STRONG: "LlamaForCausalLM"}
    kinds[REWARD] = "LlamaForSequenceClassification"
    for path, kind in kinds.items():
        config = AutoConfig.from_pretrained(path)
        assert config.architectures == [kind]
        assert (Path(path) / "model.safetensors").is_file()
        assert (Path(path) / "chat_template.jinja").is_file()
    assert AutoConfig.from_pretrained(REWARD).num_labels == 1


def test_the_strong_sibling_is_right_nearly_always():
    report = json.loads((MODELS / "report.json").read_text())
    assert report["heldout"]["strong"]["greedy_accuracy"] >= 0.97


@torch.inference_mode()
def test_reserved_ids_are_never_produced():
    """Over every position of right solutions, and after text that was never trained on."""
    from rsalign import Key

    reserved = [i for i in tokenizer().all_special_ids if i != tokenizer().eos_token_id]
    assert len(reserved) >= 8
    largest = 0.0
    for i, problem in enumerate(problems("heldout", 40)):
        chat = [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": problem.solution(Key(i))},
        ]
        ids = tokenizer().encode(
            tokenizer().apply_chat_template(chat, tokenize=False), add_special_tokens=False
        )
        start = ids.index(tokenizer().convert_tokens_to_ids("<|assistant|>"))
        probs = language_model()(torch.tensor([ids])).logits[0, start:-1].softmax(-1)
        largest = max(largest, probs[:, reserved].max().item())
    assert largest < 1e-8


def test_any_text_survives_the_tokenizer():
    for text in ("Ann has 12 coins.", "naïve café", "日本語 🦙", "\n\t  x"):
        ids = tokenizer().encode(text, add_special_tokens=False)
        assert tokenizer().decode(ids) == text


def test_the_readme_quotes_the_report():
    """Figures are copied from the record of the command that made them."""
    heldout = json.loads((MODELS / "report.json").read_text())["heldout"]
    readme = (MODELS / "README.md").read_text()
    for value in (
        heldout["policy"]["accuracy_at_temperature_1"],
        heldout["reward"]["auc_within_prompt"],
        *(row["accuracy"] for row in heldout["best_of"].values()),
    ):
        assert f"{value:.3f}" in readme
