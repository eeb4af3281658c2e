"""Which tokens contain a mark: one pass over the vocabulary for each set of marks asked for."""

from typing import Any

import torch
from torch import Tensor


class Marks:
    """A table of marks that grows by a row with each new set of them.

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

    def row(self, marks: str) -> int:
        """The table's row for a set of marks; row 0 is for none."""
        marks = "".join(sorted(set(marks)))
        if marks not in self._row:
            has = [any(mark in text for mark in marks) for text in self._vocabulary()]
            has += [False] * (self._width - len(has))
            added = torch.tensor([has], device=self.table.device)
            self.table = torch.cat((self.table, added))
            self._row[marks] = len(self._row)
        return self._row[marks]

    def _vocabulary(self) -> list[str]:
        """The text of each token alone; special ones have none."""
        if self._texts is None:
            from vllm.tokenizers import cached_tokenizer_from_config

            tokenizer = cached_tokenizer_from_config(self._model_config)
            self._texts = [
                tokenizer.decode([token], skip_special_tokens=True)
                for token in range(min(len(tokenizer), self._width - 1))
            ]
        return self._texts
