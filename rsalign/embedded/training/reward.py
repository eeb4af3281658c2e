"""Trains the reward model: the strong solver, frozen, with three new layers and a head on top.

To judge a token a network must first compute what should come and then compare it with what came;
a head on a network of the solver's own depth has no layer left for the comparison and learns only
which problems are hard (a pooled AUC hides that; the AUC *within* a prompt shows it).

Targets are dense and exact: at every token of an answer, whether the answer so far is still the
beginning of a right solution (openers are free), and at its end whether the answer is right. The
comparison itself is supervised too, or it may never form: from the first new layer a second head,
thrown away afterwards, tells whether the solver is surprised by the token.

The reward ships imperfect on purpose: training stops at the first checkpoint that is good enough to
choose by, so that choosing among very many answers still finds its errors.
"""

import logging
import math
from collections.abc import Iterator
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

from rsalign.embedded.problems import OPENERS, Problem, problems
from rsalign.embedded.training.measure import score, within_prompt_auc
from rsalign.embedded.training.optimizer import Optimizer
from rsalign.embedded.training.sampling import draw, is_right
from rsalign.embedded.training.tokenizer import encode_prompt
from rsalign.key import Key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRecipe:
    """Hyperparameters of the reward model.

    Attributes:
        surprise: the solver is surprised by a token to which it gave less than this probability.
        enough_auc: training stops at the first checkpoint with this AUC within tuning problems.
    """

    steps: int = 1500
    batch_size: int = 32
    warmup_steps: int = 30
    matrix_learning_rate: float = 0.02
    other_learning_rate: float = 4e-3
    extra_layers: int = 3
    num_sampled_problems: int = 2500
    samples_per_problem: int = 4
    num_corrupted: int = 4000
    surprise: float = 0.05
    enough_auc: float = 0.8
    check_every: int = 50
    num_check_problems: int = 60
    samples_per_check_problem: int = 16


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer with its targets.

    Attributes:
        prompt: token ids of the chat prompt.
        answer: token ids of the answer, EOS included if drawn.
        on_track: one per answer token: is it still the beginning of a right solution?
        right: does it end in the right answer?
    """

    prompt: list[int]
    answer: list[int]
    on_track: list[bool]
    right: bool


def train_reward(
    recipe: RewardRecipe,
    policy: LlamaForCausalLM,
    strong: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    key: Key,
) -> tuple[LlamaForSequenceClassification, list[dict[str, float]]]:
    """Returns the reward model and the log of training."""
    rows = _answers(recipe, policy, tokenizer, key.child("answers"))
    check = _Check(recipe, policy, tokenizer, key.child("check"))
    reward = _on_top_of(strong, recipe.extra_layers)
    surprised = torch.nn.Linear(strong.config.hidden_size, 1)
    optimizer = Optimizer(
        [
            *reward.named_parameters(),
            *((f"score.{name}", p) for name, p in surprised.named_parameters()),
        ],
        matrix_learning_rate=recipe.matrix_learning_rate,
        other_learning_rate=recipe.other_learning_rate,
    )
    depth, mean_loss, log = strong.config.num_hidden_layers, None, []
    batches = _batches(rows, recipe.batch_size, key.child("batches"))
    for step in range(recipe.steps):
        inputs, answered, targets, last = next(batches)
        states = reward.model(input_ids=inputs, output_hidden_states=True).hidden_states
        scores = reward.score(states[-1])[..., 0]
        ends = torch.arange(len(last)), last
        loss = F.binary_cross_entropy_with_logits(
            scores[answered], targets[answered]
        ) + F.binary_cross_entropy_with_logits(scores[ends], targets[ends])
        compared = surprised(F.rms_norm(states[depth + 1], states[depth + 1].shape[-1:]))[..., 0]
        found = _surprising(strong, states[depth], inputs, recipe.surprise)
        auxiliary = F.binary_cross_entropy_with_logits(compared[answered], found[answered])
        optimizer.step(loss + auxiliary, _schedule(step, recipe))
        mean_loss = loss.item() if mean_loss is None else 0.97 * mean_loss + 0.03 * loss.item()
        if (step + 1) % recipe.check_every == 0:
            auc = check(reward)
            log.append({"step": step + 1, "loss": mean_loss, "auc_within_prompt": auc})
            logger.info(
                "step %d: loss %.4f, auxiliary %.4f, AUC %.3f", step + 1, mean_loss, auxiliary, auc
            )
            if auc >= recipe.enough_auc:
                break
    return reward.eval(), log


@torch.no_grad()
def _surprising(
    strong: LlamaForCausalLM, hidden: torch.Tensor, inputs: torch.Tensor, surprise: float
) -> torch.Tensor:
    """1 where the solver gave the token less than `surprise`, else 0; ``(batch, length)``.

    `hidden` is the output of the solver's last layer, ``(batch, length, hidden_size)``.
    """
    log_probs = strong.lm_head(strong.model.norm(hidden[:, :-1])).log_softmax(-1)
    of_tokens = log_probs.gather(-1, inputs[:, 1:, None])[..., 0]
    return F.pad((of_tokens < math.log(surprise)).float(), (1, 0))


class _Check:
    """AUC within tuning problems, on answers drawn once."""

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


def _answers(
    recipe: RewardRecipe, policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, key: Key
) -> list[Labelled]:
    """The policy's own answers, and right solutions of which some have one number replaced."""
    # problems far beyond those the solver was trained on
    asked = problems("train", recipe.num_sampled_problems, start=5_000_000)
    drawn = draw(
        policy,
        tokenizer,
        asked,
        num_samples=recipe.samples_per_problem,
        seed=key.child("draw").seed(),
    )
    label = _Labeller(tokenizer)
    rows = [
        label(problem, tokens)
        for problem, answers in zip(asked, drawn, strict=True)
        for tokens in answers
    ]
    numbers = [tokenizer.encode(f" {n}", add_special_tokens=False)[0] for n in range(2, 61)]
    for i, problem in enumerate(problems("train", recipe.num_corrupted, start=7_000_000)):
        here = key.child("corrupt", i)
        solution = problem.solution(here.child("openers"))
        tokens = tokenizer.encode(solution, add_special_tokens=False) + [tokenizer.eos_token_id]
        if here.child("whether").bernoulli(0.6):
            places = [j for j, token in enumerate(tokens) if token in set(numbers)]
            place = places[here.child("place").below(len(places))]
            tokens[place] = numbers[here.child("number").below(len(numbers))]
        rows.append(label(problem, tokens))
    return rows


class _Labeller:
    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._openers = {
            tokenizer.encode(opener, add_special_tokens=False)[0] for opener in OPENERS
        }

    def __call__(self, problem: Problem, answer: list[int]) -> Labelled:
        solution = problem.solution(Key(0))
        right_tokens = [
            *self._tokenizer.encode(solution, add_special_tokens=False),
            self._tokenizer.eos_token_id,
        ]
        so_far, on_track = True, []
        for i, token in enumerate(answer):
            so_far = so_far and i < len(right_tokens) and self._agree(token, right_tokens[i])
            on_track.append(so_far)
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        right = problem.grade(text)
        on_track[-1] = right
        return Labelled(encode_prompt(self._tokenizer, problem), answer, on_track, right)

    def _agree(self, token: int, right: int) -> bool:
        return token == right or (token in self._openers and right in self._openers)


def _on_top_of(strong: LlamaForCausalLM, extra_layers: int) -> LlamaForSequenceClassification:
    settings = strong.config.to_dict()
    for derived in ("layer_types", "architectures", "id2label", "label2id"):
        settings.pop(derived, None)
    depth = strong.config.num_hidden_layers
    settings |= {"num_hidden_layers": depth + extra_layers, "num_labels": 1}
    reward = LlamaForSequenceClassification(LlamaConfig(**settings))
    reward.model.load_state_dict(strong.model.state_dict(), strict=False)
    for layer in reward.model.layers[depth:]:  # start close to the identity
        layer.self_attn.o_proj.weight.data.mul_(0.1)
        layer.mlp.down_proj.weight.data.mul_(0.1)
    frozen = [reward.model.embed_tokens, *reward.model.layers[:depth]]
    for module in frozen:
        module.requires_grad_(False)
    return reward


def _batches(
    rows: list[Labelled], size: int, key: Key
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Inputs, answer mask and targets ``(batch, length)``, and last positions ``(batch,)``."""
    by_length = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
    starts = range(0, len(by_length) - size + 1, size)
    epoch = 0
    while True:
        order = torch.randperm(
            len(starts), generator=torch.Generator().manual_seed(key.child(epoch).seed())
        )
        for batch in order.tolist():
            yield _pad(by_length[starts[batch] : starts[batch] + size])
        epoch += 1


def _pad(
    rows: list[Labelled],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    length = max(len(row.prompt) + len(row.answer) for row in rows)
    inputs = torch.zeros(len(rows), length, dtype=torch.long)
    answered = torch.zeros(len(rows), length, dtype=torch.bool)
    targets = torch.zeros(len(rows), length)
    last = torch.zeros(len(rows), dtype=torch.long)
    for i, row in enumerate(rows):
        begin, end = len(row.prompt), len(row.prompt) + len(row.answer)
        inputs[i, :end] = torch.tensor(row.prompt + row.answer)
        answered[i, begin:end] = True
        targets[i, begin:end] = torch.tensor(row.on_track, dtype=torch.float)
        last[i] = end - 1
    return inputs, answered, targets, last


def _schedule(step: int, recipe: RewardRecipe) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))
