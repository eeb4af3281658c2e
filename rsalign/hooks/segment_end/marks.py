"""Which tokens contain a mark: one pass over the vocabulary for each set of marks asked for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rsalign.core.text.detokenization import Word, token_text

_MOST = 256


class Marks:
    """A table of marks that grows by a row with each new set of them.

    Requests to a server may ask for any: of more than 256 sets, only those in use are kept.

    Args:
        model_config: vLLM's, for the tokenizer, which is loaded when marks are first asked for.
        device: where the table is.
    """

    def __init__(self, model_config: Any, device: torch.device) -> None:
        self._model_config = model_config
        self._width = int(model_config.get_vocab_size()) + 1
        self._texts: list[str] | None = None
        self._row: dict[str, int] = {"": 0}
        self.table: Tensor = torch.zeros(1, self._width, dtype=torch.bool, device=device)

    def rows(self, asked: Sequence[str]) -> list[int]:
        """The table's row for each set of marks in use; row 0 is for none. Earlier rows may go."""
        kinds = ["".join(sorted(set(marks))) for marks in asked]
        if len(self._row) > _MOST:
            self._row = {"": 0}
            self.table = self.table[:1]
        return [self._row_of(kind) for kind in kinds]

    def _row_of(self, marks: str) -> int:
        if marks not in self._row:
            wanted = set(marks)
            has = [not wanted.isdisjoint(text) for text in self._vocabulary()]
            has += [False] * (self._width - len(has))
            added = torch.tensor([has], device=self.table.device)
            self.table = torch.cat((self.table, added))
            self._row[marks] = len(self._row)
        return self._row[marks]

    def _vocabulary(self) -> list[str]:
        """The text of each token within a text; special ones have none."""
        if self._texts is None:
            from vllm.tokenizers import cached_tokenizer_from_config

            tokenizer = cached_tokenizer_from_config(self._model_config)
            word = Word.of(tokenizer)
            self._texts = [
                token_text(tokenizer, token, word)
                for token in range(min(len(tokenizer), self._width - 1))
            ]
        return self._texts
