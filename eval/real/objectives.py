"""What the rewards are trained for: the polarity of a review, and which of two replies is better.

A reward is read at the last token of a finished answer, and at the last token so far of an answer
that is still open, as samplers that work by segments do. Both are trained: a causal model scores
every prefix of a text in one pass.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F

from eval.real.texts import Pair, Review, Text

T_contra = TypeVar("T_contra", contravariant=True)

_LEAST = 6
"""Tokens of an answer before its prefixes are learned from: shorter ones say nothing."""


class Objective(Protocol[T_contra]):
    """A loss over examples, each of one text or several."""

    def texts(self, example: T_contra) -> Sequence[Text]:
        """The texts that are scored for an example."""
        ...

    def loss(self, scores: torch.Tensor, examples: Sequence[T_contra]) -> torch.Tensor:
        """The mean loss.

        Args:
            scores: of every position of the examples' texts in turn, ``(texts, length)``.
            examples: to which they belong.
        """
        ...

    def right(self, scores: Sequence[float], example: T_contra) -> bool:
        """Whether the scores of an example's texts are on the right side."""
        ...


class Polarity:
    """The log-odds that a review is positive."""

    def texts(self, example: Review) -> Sequence[Text]:
        """See `Objective`."""
        return (example.text,)

    def loss(self, scores: torch.Tensor, examples: Sequence[Review]) -> torch.Tensor:
        """Cross-entropy, half at the end of the text and half at all of its prefixes."""
        losses = []
        for row, example in zip(scores, examples, strict=True):
            text = example.text
            wanted = row if example.positive else -row
            losses.append(-F.logsigmoid(wanted[len(text.tokens) - 1]))
            losses.append(-F.logsigmoid(wanted[text.begin + _LEAST : text.end]).mean())
        return torch.stack(losses).mean()

    def right(self, scores: Sequence[float], example: Review) -> bool:
        """Whether the sign is that of the label."""
        return (scores[0] > 0) == example.positive


class Preference:
    """The Bradley-Terry model of pairs: a difference of rewards is a log-odds."""

    def texts(self, example: Pair) -> Sequence[Text]:
        """See `Objective`."""
        return example.chosen, example.rejected

    def loss(self, scores: torch.Tensor, examples: Sequence[Pair]) -> torch.Tensor:
        """Cross-entropy, half of the finished replies and half of the same replies left open."""
        losses = []
        for chosen, rejected, example in zip(scores[::2], scores[1::2], examples, strict=True):
            better, worse = example.chosen, example.rejected
            finished = chosen[len(better.tokens) - 1] - rejected[len(worse.tokens) - 1]
            opened = chosen[better.end - 1] - rejected[worse.end - 1]
            losses += [-F.logsigmoid(finished), -F.logsigmoid(opened)]
        return torch.stack(losses).mean()

    def right(self, scores: Sequence[float], example: Pair) -> bool:
        """Whether the chosen reply has the higher score."""
        return scores[0] > scores[1]
