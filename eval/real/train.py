"""Trains the upper layers of a reward on the states of the frozen ones."""

import logging
import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from eval.real.features import Trunk
from eval.real.objectives import Objective
from eval.real.texts import Text
from eval.real.top import Top
from rsalign.core.key import Key

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CHECK_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyperparameters.

    Attributes:
        epochs: passes over the examples; the one after which the loss on the tuning part is the
            lowest is kept.
        batch_size: examples in a step.
        learning_rate: of the layers.
        head_learning_rate: of the head, which begins at zero.
        weight_decay: of both.
        warmup: share of the steps in which the learning rates rise.
    """

    epochs: int
    batch_size: int = 16
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: float = 0.05


class Examples(Generic[T]):
    """Examples with the frozen layers' states of their texts."""

    def __init__(self, examples: Sequence[T], objective: Objective[T], trunk: Trunk) -> None:
        self.examples = examples
        self._objective = objective
        self.texts: list[Sequence[Text]] = [objective.texts(one) for one in examples]
        flat = iter(trunk.states([text.tokens for texts in self.texts for text in texts]))
        self._states = [[next(flat) for _ in texts] for texts in self.texts]

    def __len__(self) -> int:
        return len(self.examples)

    def loss(self, top: Top, chosen: Sequence[int]) -> torch.Tensor:
        """The mean loss of the examples that are chosen by index."""
        scores = top([state for index in chosen for state in self._states[index]])
        return self._objective.loss(scores, [self.examples[index] for index in chosen])

    @torch.inference_mode()
    def scores(self, top: Top, *, finished: bool = True) -> list[list[float]]:
        """The scores of each example's texts, as finished answers or as open ones."""
        found = []
        for chosen in self._batches():
            rows = iter(top([state for index in chosen for state in self._states[index]]))
            for index in chosen:
                ends = [len(one.tokens) if finished else one.end for one in self.texts[index]]
                found.append([float(next(rows)[end - 1]) for end in ends])
        return found

    def accuracy(self, top: Top, *, finished: bool = True) -> float:
        """Share of examples whose scores are on the right side."""
        scores = self.scores(top, finished=finished)
        return sum(map(self._objective.right, scores, self.examples)) / len(self)

    @torch.inference_mode()
    def mean_loss(self, top: Top) -> float:
        """The mean loss of all examples."""
        parts = [float(self.loss(top, batch)) * len(batch) for batch in self._batches()]
        return math.fsum(parts) / len(self)

    def _batches(self) -> Iterator[range]:
        for start in range(0, len(self), _CHECK_BATCH):
            yield range(start, min(start + _CHECK_BATCH, len(self)))


def train(
    top: Top, examples: Examples[T], tuning: Examples[T], recipe: Recipe, key: Key
) -> tuple[Top, list[dict[str, float]]]:
    """Trains `top` in place.

    Returns:
        The best state of it, in evaluation mode, and what each pass came to.
    """
    layers = [one for one in top.model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": layers, "lr": recipe.learning_rate},
            {"params": top.score.parameters(), "lr": recipe.head_learning_rate},
        ],
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.98),
    )
    batches = _count_batches(len(examples), recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step / (batches * recipe.epochs), recipe.warmup)
    )
    best, lowest, log = top, math.inf, list[dict[str, float]]()
    for epoch in range(recipe.epochs):
        top.train()
        order = sorted(range(len(examples)), key=lambda index: key.child(epoch, index).seed())
        total = 0.0
        for start in range(0, len(order), recipe.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = examples.loss(top, order[start : start + recipe.batch_size])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layers, 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / batches
        top.eval()
        tuned, right = tuning.mean_loss(top), tuning.accuracy(top)
        log.append({"loss": total, "tuning_loss": tuned, "tuning_accuracy": right})
        logger.info("pass %d: %s", epoch + 1, log[-1])
        if tuned < lowest:
            best, lowest = deepcopy(top), tuned
    return best.eval(), log


def _count_batches(examples: int, recipe: Recipe) -> int:
    return math.ceil(examples / recipe.batch_size)


def _rate(progress: float, warmup: float) -> float:
    """Rises to 1, then falls to 0 along half a cosine."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
