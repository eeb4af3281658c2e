"""Measures the embedded models on held-out problems."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import bootstrap
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from rsalign.core.key import Key
from rsalign.embedded.problems import NUM_CHANGES, Problem, problems
from rsalign.embedded.training.sampling import draw, is_right
from rsalign.embedded.training.tokenizer import encode_prompt, never_drawn

Rewards = npt.NDArray[np.float64]
Right = npt.NDArray[np.bool_]

_BATCH_SIZE = 64


def measure(
    policy: LlamaForCausalLM,
    strong: LlamaForCausalLM,
    reward: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    key: Key,
    *,
    num_problems: int = 200,
    num_samples: int = 64,
) -> dict[str, Any]:
    """Returns accuracies, the reward's AUC within prompts, and best-of-n with 95 % intervals."""
    asked = problems("heldout", num_problems)
    answers = draw(
        policy, tokenizer, asked, num_samples=num_samples, seed=key.child("policy").seed()
    )
    right = np.array(
        [[is_right(p, a, tokenizer) for a in row] for p, row in zip(asked, answers, strict=True)]
    )
    rewards = np.array(
        [score(reward, tokenizer, p, row) for p, row in zip(asked, answers, strict=True)]
    )
    return {
        "problems": num_problems,
        "samples_per_problem": num_samples,
        "policy": {
            "accuracy_at_temperature_1": float(right.mean()),
            "accuracy_by_number_of_changes": _by_changes(asked, right),
            "greedy_accuracy": _greedy(policy, tokenizer, asked),
            f"pass_at_{num_samples}": float(right.any(1).mean()),
            "largest_probability_of_a_reserved_id": _reserved(policy, tokenizer, asked, answers),
        },
        "strong": {"greedy_accuracy": _greedy(strong, tokenizer, asked)},
        "reward": {
            "auc_within_prompt": within_prompt_auc(rewards, right),
            "auc_within_prompt_after_each_quarter_of_the_lines": [
                _partial_auc(reward, tokenizer, asked, answers, right, quarter)
                for quarter in (1, 2, 3)
            ],
            "pearson_with_length": float(
                np.corrcoef(rewards.ravel(), [len(a) for row in answers for a in row])[0, 1]
            ),
        },
        "best_of": {
            n: best_of(rewards, right, n) for n in (1, 2, 4, 8, 16, 32, 64) if n <= num_samples
        },
    }


@torch.inference_mode()
def score(
    reward: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    problem: Problem,
    answers: list[list[int]],
) -> list[float]:
    """Rewards of answers, whole or partial, to one problem."""
    prompt, values = encode_prompt(tokenizer, problem), []
    for start in range(0, len(answers), _BATCH_SIZE):
        rows = [prompt + answer for answer in answers[start : start + _BATCH_SIZE]]
        inputs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            inputs[i, : len(row)] = torch.tensor(row)
        hidden = reward.model(input_ids=inputs).last_hidden_state
        last = hidden[torch.arange(len(rows)), [len(row) - 1 for row in rows]]
        values += reward.score(last)[:, 0].tolist()
    return values


def within_prompt_auc(rewards: Rewards, right: Right) -> float:
    """Mean over prompts of P(a correct answer scores above an incorrect one to the same prompt).

    Prompts without both kinds of answers are left out. The AUC over all prompts together would also
    reward knowing which problems are hard, which does not help to choose among the answers to one.
    """
    values = []
    for row, labels in zip(rewards, right, strict=True):
        if labels.any() and not labels.all():
            difference = row[labels][:, None] - row[~labels][None, :]
            values.append((difference > 0).mean() + 0.5 * (difference == 0).mean())
    return float(np.mean(values))


def _partial_auc(
    reward: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    asked: list[Problem],
    answers: list[list[list[int]]],
    right: Right,
    quarter: int,
) -> float:
    """AUC of the reward after a quarter, half or three quarters of an answer's lines."""
    newline = tokenizer.encode("\n", add_special_tokens=False)[0]
    rewards = []
    for problem, row in zip(asked, answers, strict=True):
        lines = len(problem.equations) * quarter // 4
        rewards.append(score(reward, tokenizer, problem, [_lines(a, newline, lines) for a in row]))
    return within_prompt_auc(np.array(rewards), right)


def _lines(answer: list[int], newline: int, count: int) -> list[int]:
    ends = [i + 1 for i, token in enumerate(answer) if token == newline]
    return answer[: ends[min(count, len(ends)) - 1]] if ends and count else answer


def best_of(rewards: Rewards, right: Right, n: int) -> dict[str, float]:
    """Accuracy of best-of-n with a 95 % interval, over disjoint groups of the samples."""
    groups = rewards.shape[1] // n
    shape = (len(rewards), groups, n)
    picked = rewards[:, : groups * n].reshape(shape).argmax(-1)[..., None]
    hits = np.take_along_axis(right[:, : groups * n].reshape(shape), picked, -1)[..., 0]
    per_prompt = hits.mean(1)
    interval = bootstrap((per_prompt,), np.mean, rng=0).confidence_interval
    return {"accuracy": float(per_prompt.mean()), "low": interval.low, "high": interval.high}


def _by_changes(asked: list[Problem], right: Right) -> dict[int, float]:
    changes = np.array([problem.num_changes for problem in asked])
    return {k: float(right[changes == k].mean()) for k in NUM_CHANGES}


def _greedy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[Problem]
) -> float:
    answers = draw(model, tokenizer, asked, num_samples=1, seed=0, greedy=True)
    return float(
        np.mean([is_right(p, row[0], tokenizer) for p, row in zip(asked, answers, strict=True)])
    )


@torch.inference_mode()
def _reserved(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    asked: list[Problem],
    answers: list[list[list[int]]],
) -> float:
    """The largest probability of a reserved id, over all positions of one answer per problem."""
    largest = 0.0
    for problem, (answer, *_) in zip(asked, answers, strict=True):
        prompt = encode_prompt(tokenizer, problem)
        logits = policy(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 :]
        largest = max(largest, float(logits.softmax(-1)[:, never_drawn(tokenizer)].max()))
    return largest
