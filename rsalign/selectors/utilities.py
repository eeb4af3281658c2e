"""Utilities: how much one text is worth if another one is right, for `MinimumBayesRisk`.

Words are separated by white space and taken as they are written: no stemming, no lower case.

    >>> UnigramF1()("the cat sat", "the cat"), Rouge1()("the the cat", "the dog")
    (0.8, 0.4)
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Protocol, runtime_checkable

from rsalign.core.checks import check_settings, finite_or_none, quote
from rsalign.core.errors import StrategyError
from rsalign.core.fingerprint import name_of
from rsalign.selectors.extraction import EXTRACTOR, Extract, WholeText, extracted


class Utility(Protocol):
    """A finite number for two texts, higher if they agree more. Any function will do.

    Example:
        >>> def same_end(candidate: str, reference: str) -> float:
        ...     return float(candidate[-1:] == reference[-1:])
        >>> utility: Utility = same_end
        >>> utility("It is 4", "4")
        1.0
    """

    def __call__(self, candidate: str, reference: str) -> float:
        """The worth of `candidate` if `reference` is right."""
        ...


@runtime_checkable
class TableUtility(Utility, Protocol):
    """A utility that can compare many texts faster than two at a time."""

    def table(self, texts: Sequence[str]) -> list[list[float]]:
        """The utility of each text (row) for each reference (column), ``(texts, texts)``."""
        ...


def expected_utilities(
    utility: Utility, texts: Sequence[str], weights: Sequence[float]
) -> tuple[float, ...]:
    """The weighted mean utility of each text over all references, itself included, ``(texts,)``.

    Args:
        utility: called for each pair of texts, unless it has a `table`.
        texts: both the candidates and the references, ``(texts,)``.
        weights: of the references, ``(texts,)``; they sum to 1.

    Raises:
        StrategyError: if a utility is no finite number, or the table has not one row and column
            for each text.
    """
    if isinstance(utility, TableUtility):
        table = utility.table(texts)
    else:
        table = [[utility(text, reference) for reference in texts] for text in texts]
    if [len(row) for row in table] != [len(texts)] * len(texts):
        raise StrategyError(
            f"the table of the utility {name_of(utility)} must have {len(texts)} rows and columns: "
            "one of each for each text"
        )
    for row in table:
        for value in row:
            if finite_or_none(value) is None:
                raise StrategyError(
                    f"the utility {name_of(utility)} returned {quote(value)}, but must return a "
                    "finite number"
                )
    # fsum rounds once, so that equal utilities in another order have an equal sum and tie
    return tuple(math.fsum(map(mul, row, weights)) for row in table)


@dataclass(frozen=True, slots=True)
class UnigramF1:
    """F1 of the *sets* of words: 2 * (common words) / (sum of both numbers of distinct words).

    Two texts without words have utility 1.

    Example:
        >>> UnigramF1()("the cat sat", "the cat")
        0.8
    """

    def __call__(self, candidate: str, reference: str) -> float:
        """The F1 of two texts, between 0 and 1."""
        return self.table((candidate, reference))[0][1]

    def table(self, texts: Sequence[str]) -> list[list[float]]:
        """The utility of all pairs, by one product of matrices."""
        return _f1([frozenset(text.split()) for text in texts])


@dataclass(frozen=True, slots=True)
class Rouge1:
    """ROUGE-1 F1 (Lin 2004): F1 of the *counts* of words.

    A word that occurs a times in one text and b times in the other is common min(a, b) times. The
    published script also converts to lower case and drops punctuation; this one takes the words as
    they are. Two texts without words have utility 1.

    Example:
        >>> Rouge1()("the the cat", "the dog")
        0.4
    """

    def __call__(self, candidate: str, reference: str) -> float:
        """The F1 of two texts, between 0 and 1."""
        return self.table((candidate, reference))[0][1]

    def table(self, texts: Sequence[str]) -> list[list[float]]:
        """The utility of all pairs, by one product of matrices."""
        return _f1([_numbered(text.split()) for text in texts])


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """1 if the answers of both texts are equal, else 0: expected utilities are shares of a vote.

    Attributes:
        extract: from a text to its answer (see `rsalign.selectors.extraction`). A text without an
            answer has utility 0, also for itself.

    Raises:
        ConfigError: if `extract` cannot be called.

    Example:
        >>> from rsalign import LastNumber
        >>> ExactMatch(extract=LastNumber())("so 4", "it is 4.0")
        1.0
    """

    extract: Extract = field(default_factory=WholeText)

    def __post_init__(self) -> None:
        check_settings(self, extract=EXTRACTOR)

    def __call__(self, candidate: str, reference: str) -> float:
        """Whether the answers are equal: 0 or 1."""
        answer = extracted(self.extract, candidate)
        return float(answer is not None and answer == extracted(self.extract, reference))

    def table(self, texts: Sequence[str]) -> list[list[float]]:
        """The utility of all pairs; each answer is extracted once."""
        answers = [extracted(self.extract, text) for text in texts]
        return [[float(one is not None and one == other) for other in answers] for one in answers]


UTILITIES: dict[str, type[UnigramF1 | Rouge1 | ExactMatch]] = {
    "unigram_f1": UnigramF1,
    "rouge_1": Rouge1,
    "exact_match": ExactMatch,
}
"""Utilities by their names in settings; any other class or function is ``module:name``."""


def _numbered(words: Sequence[str]) -> frozenset[tuple[str, int]]:
    """Each word with the number of times that it came before.

    The intersection of two such sets has each common word min(a, b) times.
    """
    seen: Counter[str] = Counter()
    numbered = set()
    for word in words:
        numbered.add((word, seen[word]))
        seen[word] += 1
    return frozenset(numbered)


def _f1(items: Sequence[frozenset[Hashable]]) -> list[list[float]]:
    """F1 of all pairs of sets, ``(sets, sets)``, by one product of matrices."""
    import numpy as np  # here, so that importing the package stays light

    column = {item: i for i, item in enumerate(frozenset[Hashable]().union(*items))}
    incidence = np.zeros((len(items), len(column)), dtype=np.float32)  # whole numbers: exact
    for row, own in zip(incidence, items, strict=True):
        row[[column[item] for item in own]] = 1
    common = (incidence @ incidence.T).astype(np.float64)
    sizes = np.array([len(own) for own in items], dtype=np.float64)
    both = sizes[:, None] + sizes[None, :]
    f1: list[list[float]] = np.where(both > 0, 2 * common / np.maximum(both, 1), 1.0).tolist()
    return f1
