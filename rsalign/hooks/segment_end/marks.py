"""Which tokens contain a mark: one pass over the vocabulary for each set of marks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rsalign.core.text.detokenization import Word, token_text
from rsalign.engines.vllm.text import load_tokenizer

_MAX_SETS = 256


class MarkTable:
    """A table with a row for each set of marks that requests have asked for.

    Clients of a server may ask for any set. When there are more than 256, the table keeps only the
    sets of the requests in the batch.

    Args:
        model_config: vLLM's. Its tokenizer is loaded when marks are first asked for.
        device: of the table.

    Attributes:
        values: whether a token contains a mark of the set, ``(sets, vocab + 1)``. The last column
            is False: it stands for "no token". Row 0 is the empty set.
    """

    def __init__(self, model_config: Any, device: torch.device) -> None:
        self._model_config = model_config
        self._width = int(model_config.get_vocab_size()) + 1
        self._texts: list[str] | None = None
        self._row: dict[str, int] = {"": 0}
        self.values: Tensor = torch.zeros(1, self._width, dtype=torch.bool, device=device)

    def rows(self, requested: Sequence[str]) -> list[int]:
        """Returns the row of each set; rows returned by earlier calls may be gone.

        Args:
            requested: the sets of all requests in the batch.
        """
        sets = ["".join(sorted(set(marks))) for marks in requested]
        if len(self._row) > _MAX_SETS:
            self._row = {"": 0}
            self.values = self.values[:1]
        return [self._row_of(marks) for marks in sets]

    def _row_of(self, marks: str) -> int:
        if marks not in self._row:
            wanted = set(marks)
            has = [not wanted.isdisjoint(text) for text in self._vocabulary()]
            has += [False] * (self._width - len(has))
            added = torch.tensor([has], device=self.values.device)
            self.values = torch.cat((self.values, added))
            self._row[marks] = len(self._row)
        return self._row[marks]

    def _vocabulary(self) -> list[str]:
        """The text of each token within a text; special tokens have none."""
        if self._texts is None:
            tokenizer = load_tokenizer(self._model_config)
            word = Word.of(tokenizer)
            self._texts = [
                token_text(tokenizer, token, word)
                for token in range(min(len(tokenizer), self._width - 1))
            ]
        return self._texts
