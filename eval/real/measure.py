"""What the trained rewards are worth on texts that were held out, without flattery.

Intervals are at 95 % (Wilson's, of shares).
"""

import math
from collections.abc import Sequence
from typing import Any

from sklearn.metrics import roc_auc_score

from eval.graders.sentiment import log_odds, shipped
from eval.real.texts import Pair, Review, Text
from eval.real.top import Top
from eval.real.train import Examples

JSON = dict[str, Any]


def measure_reviews(top: Top, heldout: Examples[Review]) -> JSON:
    """Accuracy and AUC on pieces of held-out reviews, and accuracy of the classifier of words."""
    labels = [one.positive for one in heldout.examples]
    check = heldout.check(top)
    finished, opened = ([row[0] for row in rows] for rows in (check.finished, check.opened))
    by_words = [log_odds(one.piece, shipped("gold")) for one in heldout.examples]
    return {
        "pieces": len(labels),
        "mean_tokens": _mean_length([one.text for one in heldout.examples]),
        "accuracy": _right(finished, labels),
        "accuracy_open": _right(opened, labels),
        "auc": float(roc_auc_score(labels, finished)),
        "accuracy_of_the_classifier_of_words": _right(by_words, labels),
    }


def measure_pairs(top: Top, heldout: Examples[Pair]) -> JSON:
    """Accuracy on held-out pairs, which is the AUC within prompts: each prompt has one pair."""
    check = heldout.check(top)
    lengths = [(_length(one.chosen), _length(one.rejected)) for one in heldout.examples]
    return {
        "pairs": len(lengths),
        "mean_tokens": _mean_length(
            [t for one in heldout.examples for t in (one.chosen, one.rejected)]
        ),
        "accuracy": share([better > worse for better, worse in check.finished]),
        "accuracy_open": share([better > worse for better, worse in check.opened]),
        "accuracy_of_the_longer_reply": share([better > worse for better, worse in lengths]),
    }


def share(right: Sequence[bool]) -> JSON:
    """A share with its interval, for example ``{"share": 0.5, "low": 0.24, "high": 0.76}``."""
    n, z = len(right), 1.96
    mean = sum(right) / n
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"share": mean, "low": middle - half, "high": middle + half}


def _right(scores: Sequence[float], labels: Sequence[bool]) -> JSON:
    """Share of scores of the label's sign; 0 is wrong."""
    return share(
        [score * (1 if label else -1) > 0 for score, label in zip(scores, labels, strict=True)]
    )


def _length(text: Text) -> int:
    return text.end - text.begin


def _mean_length(texts: Sequence[Text]) -> float:
    return sum(map(_length, texts)) / len(texts)
