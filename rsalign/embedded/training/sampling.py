"""Samples from a solver by transformers, for labels and measurements during training."""

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rsalign.embedded.problems import Problem
from rsalign.embedded.training.tokenizer import encode_prompt

MAX_NEW_TOKENS = 128
_BATCH_SIZE = 256


@torch.inference_mode()
def draw(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: list[Problem],
    *,
    num_samples: int,
    seed: int,
    greedy: bool = False,
) -> list[list[list[int]]]:
    """Samples `num_samples` answers to each problem at temperature 1, as token ids with EOS."""
    torch.manual_seed(seed)
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    # neighbours in length share a batch, so that little is padding
    jobs = sorted(
        (i for i in range(len(prompts)) for _ in range(num_samples)), key=lambda i: len(prompts[i])
    )
    answers: list[list[list[int]]] = [[] for _ in problems]
    for start in range(0, len(jobs), _BATCH_SIZE):
        batch = jobs[start : start + _BATCH_SIZE]
        padded = tokenizer.pad(
            {"input_ids": [prompts[i] for i in batch]}, padding_side="left", return_tensors="pt"
        )
        width = padded["input_ids"].shape[1]
        out = model.generate(
            **padded,
            do_sample=not greedy,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=MAX_NEW_TOKENS,
        )
        for i, row in zip(batch, out[:, width:].tolist(), strict=True):
            answers[i].append(_until_eos(row, tokenizer.eos_token_id))
    return answers


def is_right(problem: Problem, tokens: list[int], tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the decoded answer is correct."""
    return problem.grade(tokenizer.decode(tokens, skip_special_tokens=True))


def _until_eos(row: list[int], eos: int) -> list[int]:
    return row[: row.index(eos) + 1] if eos in row else row
