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
_SORTED = 8
"""Batches that are sorted by length together."""


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


@dataclass(frozen=True, slots=True)
class Check:
    """How a reward does on examples.

    Attributes:
        loss: mean over the examples.
        finished: for each example, the scores of its texts as finished answers.
        opened: the same as answers that are still open.
    """

    loss: float
    finished: list[list[float]]
    opened: list[list[float]]


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

    def batches(self, size: int, key: Key) -> Iterator[list[int]]:
        """All examples by index, in an order drawn at random.

        Batches are of similar lengths, which spares padding: a few are sorted at a time.
        """
        order = sorted(range(len(self)), key=lambda index: key.child(index).seed())
        for start in range(0, len(order), _SORTED * size):
            window = sorted(order[start : start + _SORTED * size], key=self._length)
            yield from (window[first : first + size] for first in range(0, len(window), size))

    @torch.inference_mode()
    def check(self, top: Top) -> "Check":
        """Scores all examples."""
        losses, finished, opened = [], list[list[float]](), list[list[float]]()
        for start in range(0, len(self), _CHECK_BATCH):
            chosen = range(start, min(start + _CHECK_BATCH, len(self)))
            scores = top([state for index in chosen for state in self._states[index]])
            loss = self._objective.loss(scores, [self.examples[index] for index in chosen])
            losses.append(float(loss) * len(chosen))
            rows = iter(scores)
            for index in chosen:
                read = [(next(rows), text) for text in self.texts[index]]
                finished.append([float(row[len(text.tokens) - 1]) for row, text in read])
                opened.append([float(row[text.end - 1]) for row, text in read])
        return Check(math.fsum(losses) / len(self), finished, opened)

    def accuracy(self, scores: Sequence[Sequence[float]]) -> float:
        """Share of examples whose texts' scores are on the right side."""
        return sum(map(self._objective.right, scores, self.examples)) / len(self)

    def _length(self, index: int) -> int:
        return max(len(text.tokens) for text in self.texts[index])


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
        total = 0.0
        for batch in examples.batches(recipe.batch_size, key.child(epoch)):
            optimizer.zero_grad(set_to_none=True)
            loss = examples.loss(top, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layers, 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / batches
        top.eval()
        tuned = tuning.check(top)
        right = tuning.accuracy(tuned.finished)
        log.append({"loss": total, "tuning_loss": tuned.loss, "tuning_accuracy": right})
        logger.info("pass %d: %s", epoch + 1, log[-1])
        if tuned.loss < lowest:
            best, lowest = deepcopy(top), tuned.loss
    return best.eval(), log


def _count_batches(examples: int, recipe: Recipe) -> int:
    return math.ceil(examples / recipe.batch_size)


def _rate(progress: float, warmup: float) -> float:
    """Rises to 1, then falls to 0 along half a cosine."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
