"""What the frozen lower layers of the policy make of texts, kept on disk.

A causal model's lower layers need to run once for each text, however often the layers above them
are trained. They run in bfloat16, which is three times as fast on a CPU as float32. A run that was
stopped goes on after the last chunk that it wrote.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaModel

from rsalign.core.types import Tokens
from rsalign.engines.model_files import ModelFiles

logger = logging.getLogger(__name__)

_CHUNK = 256
"""Texts in one file."""
_BATCH = 16


class Trunk:
    """The lower layers of a model.

    Attributes:
        model: path of a Llama checkpoint.
        depth: number of its layers that are frozen.

    Args:
        model: as above.
        depth: as above.
        folder: where states are kept. What is kept of another model, depth or text is not used.
    """

    def __init__(self, model: str, depth: int, folder: Path) -> None:
        self.model, self.depth, self._folder = model, depth, folder
        self._identity = f"{ModelFiles.of(model).digest()} {depth}"
        self._loaded: LlamaModel | None = None

    @property
    def max_model_len(self) -> int:
        """Greatest number of tokens of a text."""
        return int(LlamaConfig.from_pretrained(self.model).max_position_embeddings)

    def states(self, texts: Sequence[Tokens]) -> list[torch.Tensor]:
        """The states after the last frozen layer, each ``(tokens, hidden)`` in bfloat16."""
        return [
            state
            for start in range(0, len(texts), _CHUNK)
            for state in self._chunk(texts[start : start + _CHUNK])
        ]

    def _chunk(self, texts: Sequence[Tokens]) -> Iterator[torch.Tensor]:
        name = hashlib.blake2b(repr((self._identity, texts)).encode(), digest_size=12).hexdigest()
        file = self._folder / f"{name}.safetensors"
        if not file.is_file():
            states = self._compute(texts)
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            save_file({"states": torch.cat(states)}, partial)
            partial.rename(file)
            logger.info("states of %d texts are in %s", len(texts), file)
        kept = load_file(file)["states"]
        return iter(kept.split([len(text) for text in texts]))

    @torch.inference_mode()
    def _compute(self, texts: Sequence[Tokens]) -> list[torch.Tensor]:
        model = self._lower_layers()
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: dict[int, torch.Tensor] = {}
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            inputs = torch.zeros(len(batch), len(texts[batch[-1]]), dtype=torch.long)
            for row, index in enumerate(batch):
                inputs[row, : len(texts[index])] = torch.tensor(texts[index])
            # no mask is needed: no token attends to the padding, which is on its right
            states = model(input_ids=inputs, use_cache=False).last_hidden_state
            found |= {index: states[row, : len(texts[index])] for row, index in enumerate(batch)}
        return [found[index] for index in range(len(texts))]

    def _lower_layers(self) -> LlamaModel:
        if self._loaded is None:
            model = LlamaModel.from_pretrained(self.model, dtype=torch.bfloat16).eval()
            del model.layers[self.depth :]
            model.norm = torch.nn.Identity()  # the norm comes after the last layer
            self._loaded = model
        return self._loaded
