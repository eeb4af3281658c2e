"""Trains the reward model: the strong solver with three more layers and a head.

To judge a token, a network must first compute the expected token and then compare it with the
actual one. A head on a network of the solver's own depth has no layer left for the comparison and
learns only which problems are hard (the AUC *within* a prompt shows that, the AUC over all prompts
does not). Even with more layers, labels of correct and incorrect answers alone hardly teach the
comparison, because errors are rare. So the first new layer is also trained to predict, at every
token, the token that the solver expected and the actual one, and the second whether the solver is
surprised. The heads for these auxiliary losses are dropped after training.

The remaining head is trained on an exact label for every token (`labelled.py`). The reward model is
imperfect on purpose: training stops at the first checkpoint that is good enough, so that best-of-n
with a large n still finds and exploits its errors.
"""

import logging
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from rsalign.core.key import Key
from rsalign.embedded.problems import problems
from rsalign.embedded.training.labelled import Labelled, sampled, with_slips
from rsalign.embedded.training.measure import score, within_prompt_auc
from rsalign.embedded.training.optimizer import Optimizer
from rsalign.embedded.training.sampling import draw, is_right

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRecipe:
    """Hyperparameters of the reward model.

    Attributes:
        slip_densities: shares of the numbers that are replaced in solutions with slips.
        surprise: the solver counts as surprised by a token with less than this probability.
        averaging: rate of the moving average of the weights that is checked and shipped.
        enough_auc: training stops at the first checkpoint with this AUC within tuning problems.
    """

    steps: int = 1000
    batch_size: int = 32
    warmup_steps: int = 30
    matrix_learning_rate: float = 0.015
    other_learning_rate: float = 3e-3
    extra_layers: int = 3
    num_sampled_problems: int = 2500
    samples_per_problem: int = 4
    num_slip_problems: int = 12_000
    slip_densities: tuple[float, ...] = (0.3, 0.15, 0.05)
    surprise: float = 0.05
    averaging: float = 0.03
    enough_auc: float = 0.9
    check_every: int = 50
    num_check_problems: int = 100
    samples_per_check_problem: int = 16


def train_reward(
    recipe: RewardRecipe,
    policy: LlamaForCausalLM,
    strong: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    key: Key,
) -> tuple[LlamaForSequenceClassification, list[dict[str, float]]]:
    """Trains the reward model; returns it and the training log."""
    own = sampled(
        policy,
        tokenizer,
        key.child("sampled"),
        num_problems=recipe.num_sampled_problems,
        samples_per_problem=recipe.samples_per_problem,
    )
    slips = with_slips(
        policy,
        tokenizer,
        key.child("slips"),
        num_problems=recipe.num_slip_problems,
        densities=recipe.slip_densities,
    )
    logger.info("%d answers of the policy, %d solutions with slips", len(own), len(slips))
    check = _Check(recipe, policy, tokenizer, key.child("check"))
    reward = _on_top_of(strong, recipe.extra_layers)
    helpers = _Helpers(strong, recipe)
    averaged = deepcopy(reward)
    optimizer = Optimizer(
        [*reward.named_parameters(), *helpers.named_parameters()],
        matrix_learning_rate=recipe.matrix_learning_rate,
        other_learning_rate=recipe.other_learning_rate,
    )
    mean_loss, log = None, []
    batches = _batches(own, slips, recipe.batch_size, key.child("batches"))
    for step in range(recipe.steps):
        batch = next(batches)
        states = reward.model(input_ids=batch.inputs, output_hidden_states=True).hidden_states
        scores = reward.score(states[-1])[..., 0]
        ends = torch.arange(len(batch.last)), batch.last
        loss = F.binary_cross_entropy_with_logits(
            scores[batch.answered], batch.on_track[batch.answered]
        ) + F.binary_cross_entropy_with_logits(scores[ends], batch.on_track[ends])
        optimizer.step(loss + helpers(states, batch), _schedule(step, recipe))
        _average(averaged, reward, recipe.averaging)
        mean_loss = loss.item() if mean_loss is None else 0.97 * mean_loss + 0.03 * loss.item()
        if (step + 1) % recipe.check_every == 0:
            auc = check(averaged)
            log.append({"step": step + 1, "loss": mean_loss, "auc_within_prompt": auc})
            logger.info("step %d: loss %.4f, AUC within prompts %.3f", step + 1, mean_loss, auc)
            if auc >= recipe.enough_auc:
                break
    return averaged.eval(), log


@dataclass(frozen=True, slots=True)
class _Batch:
    """Answers of a batch, padded on the right.

    Attributes:
        inputs: token ids, ``(batch, length)``.
        answered: which of them belong to an answer, ``(batch, length)``.
        on_track: targets, ``(batch, length)``.
        last: position of each answer's last token, ``(batch,)``.
    """

    inputs: torch.Tensor
    answered: torch.Tensor
    on_track: torch.Tensor
    last: torch.Tensor


class _Helpers(torch.nn.Module):
    """Auxiliary losses that teach the comparison; used in training only."""

    def __init__(self, strong: LlamaForCausalLM, recipe: RewardRecipe) -> None:
        super().__init__()
        size, vocab = strong.config.hidden_size, strong.config.vocab_size
        self.score_expected = torch.nn.Linear(size, vocab)
        self.score_came = torch.nn.Linear(size, vocab)
        self.score_surprise = torch.nn.Linear(size, 1)
        self._depth = strong.config.num_hidden_layers
        self._threshold = math.log(recipe.surprise)
        self._solver = (strong,)  # in a tuple: it is not trained with the helpers

    def forward(self, states: tuple[torch.Tensor, ...], batch: _Batch) -> torch.Tensor:
        """The weighted sum of the losses; `states` are the reward model's hidden states."""
        (strong,) = self._solver
        with torch.no_grad():
            logits = strong(batch.inputs[:, :-1]).logits
        expected = F.pad(logits.argmax(-1), (1, 0))[batch.answered]
        came = batch.inputs[batch.answered]
        log_probs = logits.log_softmax(-1).gather(-1, batch.inputs[:, 1:, None])[..., 0]
        surprised = F.pad((log_probs < self._threshold).float(), (1, 0))[batch.answered]

        size = states[0].shape[-1]
        first = F.rms_norm(states[self._depth + 1], (size,))[batch.answered]
        second = F.rms_norm(states[self._depth + 2], (size,))[batch.answered]
        loss = 0.5 * F.cross_entropy(self.score_expected(first), expected)
        loss = loss + 0.5 * F.cross_entropy(self.score_came(first), came)
        loss = loss + 4 * F.binary_cross_entropy_with_logits(
            self.score_surprise(second)[..., 0], surprised
        )
        return loss + self._solving(states[self._depth], batch, strong)

    def _solving(
        self, hidden: torch.Tensor, batch: _Batch, strong: LlamaForCausalLM
    ) -> torch.Tensor:
        """Next-token loss on correct prefixes, so that the lower layers keep solving problems."""
        follows = batch.answered[:, 1:] & (batch.on_track[:, 1:] > 0)
        norm = strong.model.norm
        states = F.rms_norm(hidden, norm.weight.shape, norm.weight.detach(), norm.variance_epsilon)
        logits = states[:, :-1][follows] @ strong.lm_head.weight.detach().T
        return F.cross_entropy(logits, batch.inputs[:, 1:][follows])


class _Check:
    """Computes the AUC within tuning problems, on answers that are sampled once."""

    def __init__(
        self,
        recipe: RewardRecipe,
        policy: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        key: Key,
    ) -> None:
        self._tokenizer = tokenizer
        self._asked = problems("tune", recipe.num_check_problems, start=1000)
        self._answers = draw(
            policy,
            tokenizer,
            self._asked,
            num_samples=recipe.samples_per_check_problem,
            seed=key.seed(),
        )
        self._right = np.array(
            [
                [is_right(problem, answer, tokenizer) for answer in row]
                for problem, row in zip(self._asked, self._answers, strict=True)
            ]
        )

    def __call__(self, reward: LlamaForSequenceClassification) -> float:
        rewards = [
            score(reward, self._tokenizer, problem, row)
            for problem, row in zip(self._asked, self._answers, strict=True)
        ]
        return within_prompt_auc(np.array(rewards), self._right)


def _on_top_of(strong: LlamaForCausalLM, extra_layers: int) -> LlamaForSequenceClassification:
    settings = strong.config.to_dict()
    for derived in ("layer_types", "architectures", "dtype", "id2label", "label2id"):
        settings.pop(derived, None)
    depth = strong.config.num_hidden_layers
    settings |= {"num_hidden_layers": depth + extra_layers, "num_labels": 1}
    reward = LlamaForSequenceClassification(LlamaConfig(**settings))
    reward.model.load_state_dict(strong.model.state_dict(), strict=False)
    for layer in reward.model.layers[depth:]:  # start close to the identity
        layer.self_attn.o_proj.weight.data.mul_(0.1)
        layer.mlp.down_proj.weight.data.mul_(0.1)
    return reward


@torch.no_grad()
def _average(
    averaged: LlamaForSequenceClassification,
    reward: LlamaForSequenceClassification,
    rate: float,
) -> None:
    for mean, new in zip(averaged.parameters(), reward.parameters(), strict=True):
        mean.lerp_(new, rate)


def _batches(own: list[Labelled], slips: list[Labelled], size: int, key: Key) -> Iterator[_Batch]:
    """Endless batches, half of them samples of the policy and half solutions with slips."""
    generator = torch.Generator().manual_seed(key.seed())

    def some(rows: list[Labelled], count: int) -> list[Labelled]:
        return [rows[i] for i in torch.randint(len(rows), (count,), generator=generator).tolist()]

    while True:
        yield _pad(some(own, size // 2) + some(slips, size - size // 2))


def _pad(rows: list[Labelled]) -> _Batch:
    length = max(len(row.prompt) + len(row.answer) for row in rows)
    inputs = torch.zeros(len(rows), length, dtype=torch.long)
    answered = torch.zeros(len(rows), length, dtype=torch.bool)
    on_track = torch.zeros(len(rows), length)
    last = torch.zeros(len(rows), dtype=torch.long)
    for i, row in enumerate(rows):
        begin, end = len(row.prompt), len(row.prompt) + len(row.answer)
        inputs[i, :end] = torch.tensor(row.prompt + row.answer)
        answered[i, begin:end] = True
        on_track[i, begin:end] = torch.tensor(row.on_track, dtype=torch.float)
        last[i] = end - 1
    return _Batch(inputs, answered, on_track, last)


def _schedule(step: int, recipe: RewardRecipe) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))
