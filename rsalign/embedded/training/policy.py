"""Trains the solver: an early checkpoint is the policy, the last one is the strong model."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rsalign.core.key import Key
from rsalign.embedded.problems import Problem, problems
from rsalign.embedded.training.optimizer import Optimizer
from rsalign.embedded.training.sampling import draw, is_right
from rsalign.embedded.training.tokenizer import MAX_LENGTH, encode_prompt, never_drawn

logger = logging.getLogger(__name__)

_IGNORED = -100
_BATCHES_PER_POOL = 20  # a pool is sorted by length, so that batches need little padding
_RESERVED_LOG_PROB = -30.0  # nats; e^-30 is never drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecipe:
    """Hyperparameters of the solver.

    Attributes:
        policy_accuracy: the first checkpoint whose temperature-1 accuracy on tuning problems
            reaches this is shipped as the policy.
    """

    steps: int = 1800
    batch_size: int = 64
    warmup_steps: int = 50
    matrix_learning_rate: float = 0.02
    other_learning_rate: float = 3e-3
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 352
    policy_accuracy: float = 0.42
    check_every: int = 40
    num_check_problems: int = 250


def train_policy(
    recipe: PolicyRecipe, tokenizer: PreTrainedTokenizerFast, key: Key
) -> tuple[LlamaForCausalLM, LlamaForCausalLM, list[dict[str, float]]]:
    """Trains both models; returns the policy, the strong model and the training log."""
    strong = _new_model(recipe, tokenizer)
    optimizer = Optimizer(
        strong.named_parameters(),
        matrix_learning_rate=recipe.matrix_learning_rate,
        other_learning_rate=recipe.other_learning_rate,
    )
    forbidden = torch.tensor(never_drawn(tokenizer))
    tuning, policy, log = problems("tune", recipe.num_check_problems), None, []
    mean_loss: float | None = None
    batches = _batches(recipe, tokenizer, key.child("batches"))
    for step in range(recipe.steps):
        inputs, targets = next(batches)
        hidden = strong.model(input_ids=inputs).last_hidden_state[:, :-1]
        known = targets[:, 1:] != _IGNORED
        log_probs = strong.lm_head(hidden[known]).log_softmax(-1)
        loss = F.nll_loss(log_probs, targets[:, 1:][known])
        leak = F.relu(log_probs[:, forbidden] - _RESERVED_LOG_PROB).mean()
        optimizer.step(loss + 0.1 * leak, _schedule(step, recipe))
        mean_loss = loss.item() if mean_loss is None else 0.97 * mean_loss + 0.03 * loss.item()
        last = step + 1 == recipe.steps
        if last or (policy is None and (step + 1) % recipe.check_every == 0 and step > 200):
            accuracy = _accuracy(strong, tokenizer, tuning, key.child("check", step))
            log.append({"step": step + 1, "loss": mean_loss, "accuracy": accuracy})
            logger.info("step %d: loss %.4f, accuracy %.3f", step + 1, mean_loss, accuracy)
            if policy is None and accuracy >= recipe.policy_accuracy:
                policy = _new_model(recipe, tokenizer)
                policy.load_state_dict(strong.state_dict())
        elif (step + 1) % 100 == 0:
            logger.info("step %d: loss %.4f", step + 1, mean_loss)
    if policy is None:
        raise RuntimeError(f"no checkpoint reached accuracy {recipe.policy_accuracy}: train longer")
    return policy.eval(), strong.eval(), log


def _new_model(recipe: PolicyRecipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads,
            num_key_value_heads=recipe.num_heads,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _schedule(step: int, recipe: PolicyRecipe) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


def _batches(
    recipe: PolicyRecipe, tokenizer: PreTrainedTokenizerFast, key: Key
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets, ``(batch, length)``; fresh problems for ever, loss on the solution."""
    pool, size = 0, recipe.batch_size * _BATCHES_PER_POOL
    while True:
        rows = []
        for i, problem in enumerate(problems("train", size, start=pool * size)):
            solution = problem.solution(key.child("solution", pool, i))
            answer = tokenizer.encode(solution, add_special_tokens=False)
            rows.append((encode_prompt(tokenizer, problem), [*answer, tokenizer.eos_token_id]))
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        order = torch.randperm(
            _BATCHES_PER_POOL, generator=torch.Generator().manual_seed(key.child(pool).seed())
        )
        for batch in order.tolist():
            yield _pad(rows[batch * recipe.batch_size : (batch + 1) * recipe.batch_size])
        pool += 1


def _pad(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    inputs = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), _IGNORED)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        inputs[i, :end] = torch.tensor(prompt + answer)
        targets[i, len(prompt) : end] = torch.tensor(answer)
    return inputs, targets


def _accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tuning: list[Problem], key: Key
) -> float:
    model.eval()
    drawn = draw(model, tokenizer, tuning, num_samples=1, seed=key.seed())
    model.train()
    return sum(
        is_right(problem, tokens, tokenizer)
        for problem, (tokens,) in zip(tuning, drawn, strict=True)
    ) / len(tuning)
