"""Exports of a real sweep: what trainers read, and what it says about the draws."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import datasets
import forked
import pytest
import torch
from exact import language_model, tokenizer

from eval.export.__main__ import main

ROOT = Path(__file__).parents[2]
SWEEP = ("-m", "strategy=best_of,cards", "budget=4", "task.limit=6", "segmenter=fixed_size")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    output = tmp_path_factory.mktemp("sweep")
    done = forked.run(
        [sys.executable, "-m", "eval.run", *SWEEP, "tokens=true", f"output={output}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return output


def export(sweep, name, tmp_path, *more):
    path = tmp_path / f"{name}.jsonl"
    assert main([str(sweep), "--format", name, "-o", str(path), *more]) == 0
    data = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert data.num_rows == len(rows) > 0
    return data.to_list()


def conversation(one):
    assert [message["role"] for message in one] == ["assistant"]
    return one[0]["content"]


def check_tokens(prompt_ids, token_ids, log_probs, text):
    """Ids spell the text, and the log-probabilities are the model's, by transformers in float32."""
    assert tokenizer().decode(token_ids, skip_special_tokens=True) == text
    with torch.inference_mode():
        logits = language_model()(torch.tensor([prompt_ids + token_ids])).logits[0]
    laws = logits[len(prompt_ids) - 1 : -1].double().log_softmax(-1)
    exact = laws.gather(1, torch.tensor(token_ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(log_probs).double(), exact, atol=1e-4, rtol=1e-4)


def prompt_of(row):
    assert [message["role"] for message in row["prompt"]] == ["user"]
    rendered = tokenizer().apply_chat_template(
        row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert rendered == row["prompt_token_ids"]
    return rendered


@pytest.mark.engine
def test_preference_pairs(sweep, tmp_path):
    rows = export(sweep, "pairs", tmp_path)
    for row in rows:
        assert row["score_chosen"] > row["score_rejected"]
        assert row["chosen_complete"]
        assert row["rejected_complete"]
        prompt = prompt_of(row)
        for side in ("chosen", "rejected"):
            text, ids = conversation(row[side]), row[f"{side}_token_ids"]
            check_tokens(prompt, ids, row[f"{side}_log_probs"], text)
            total = sum(row[f"{side}_log_probs"])
            assert row[f"{side}_log_prob"] == pytest.approx(total, abs=1e-9)
    every = export(sweep, "pairs", tmp_path, "--every-pair")
    assert len(every) > len(rows)
    gap = sorted(row["score_chosen"] - row["score_rejected"] for row in every)[len(every) // 2]
    wide = export(sweep, "pairs", tmp_path, "--every-pair", "--min-gap", str(gap))
    assert len(wide) == sum(row["score_chosen"] - row["score_rejected"] > gap for row in every)


@pytest.mark.engine
def test_segment_pairs_share_a_prefix(sweep, tmp_path):
    rows = [row for row in export(sweep, "segment_pairs", tmp_path) if row["prefix_token_ids"]]
    assert rows, "no segment after the first was ever rejected"
    for row in rows:
        prefix = row["prefix_token_ids"]
        assert row["chosen_accepted"]
        assert not row["rejected_accepted"]
        assert row["score_chosen"] > row["score_rejected"]
        assert row["chosen_token_ids"][: len(prefix)] == prefix
        assert row["rejected_token_ids"][: len(prefix)] == prefix
        assert row["chosen_token_ids"] != row["rejected_token_ids"]


@pytest.mark.engine
def test_groups_tell_how_each_answer_came_about(sweep, tmp_path):
    rows = export(sweep, "groups", tmp_path)
    assert len(rows) == 2 * 6
    pools = [row for row in rows if all(one["complete"] for one in row["samples"])]
    assert len(pools) == 6
    for row in pools:
        rewards = [one["reward"] for one in row["samples"]]
        (taken,) = (one for one in row["samples"] if one["accepted"])
        assert taken["reward"] == max(rewards)
    for row in rows:
        if row not in pools:
            accepted = [
                one for one in row["samples"] if one["accepted"] or one["verdict"] == "forced"
            ]
            for before, after in pairwise(accepted):
                length = after["prefix_length"]
                assert after["token_ids"][:length] == before["token_ids"]
            assert accepted[-1]["complete"]
        one = row["samples"][0]
        check_tokens(prompt_of(row), one["token_ids"], one["log_probs"], one["text"])


@pytest.mark.engine
def test_accepted_answers(sweep, tmp_path):
    rows = export(sweep, "sft", tmp_path)
    for row in rows:
        check_tokens(
            prompt_of(row),
            row["completion_token_ids"],
            row["completion_log_probs"],
            conversation(row["completion"]),
        )
    right = export(sweep, "sft", tmp_path, "--min-score", "1")
    assert [row for row in rows if row["score"] == 1] == right


@pytest.mark.engine
def test_what_is_not_there_is_said(sweep, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    arguments = [str(sweep), "--format", "pairs", "-o", str(path)]
    assert main([*arguments, "--min-gap", "1e9"]) == 2
    assert "no record has anything" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    for file in sweep.rglob("records.jsonl"):
        whole = [json.loads(line) for line in file.read_text().splitlines()]
        folder = tmp_path / "without" / file.parent.name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_bytes((file.parent / "config.yaml").read_bytes())
        for one in whole:
            del one["prompt_token_ids"]
        (folder / file.name).write_text("".join(json.dumps(one) + "\n" for one in whole))
    assert main([str(tmp_path / "without"), *arguments[1:]]) == 2
    assert "tokens=true" in capsys.readouterr().err
