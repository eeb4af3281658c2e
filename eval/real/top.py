"""The trained part of a reward: the policy's upper layers, a norm and a head of one number."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, LlamaForSequenceClassification, LlamaModel

from eval.real.cache import METRICS, complete_folder


class Top(torch.nn.Module):
    """Scores every position of texts, given the states after the frozen layers.

    Args:
        model: path of the policy, a Llama checkpoint.
        depth: number of its layers that are frozen.
    """

    def __init__(self, model: str, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.model = LlamaModel.from_pretrained(model, dtype=torch.float32)
        del self.model.layers[:depth]
        self.model.embed_tokens.requires_grad_(False)
        self.score = torch.nn.Linear(self.model.config.hidden_size, 1, bias=False)
        torch.nn.init.zeros_(self.score.weight)

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores ``(texts, length)``; those after a text's end mean nothing.

        Args:
            states: of each text, ``(tokens, hidden)``.
        """
        padded = pad_sequence(list(states), batch_first=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            hidden = self.model(inputs_embeds=padded.float(), use_cache=False).last_hidden_state
        scores: torch.Tensor = self.score(hidden.float())[..., 0]
        return scores

    def save(self, model: str, into: Path, figures: Mapping[str, Any]) -> None:
        """Writes the whole reward model into a new folder, with the policy's chat template.

        Args:
            model: path of the policy, whose lower layers and tokenizer it has.
            into: the folder.
            figures: what training came to, for its file `METRICS`.
        """
        tokenizer = AutoTokenizer.from_pretrained(model)
        whole = LlamaForSequenceClassification.from_pretrained(
            model, num_labels=1, dtype=torch.float32
        )
        whole.model.layers[self.depth :].load_state_dict(self.model.layers.state_dict())
        whole.model.norm.load_state_dict(self.model.norm.state_dict())
        whole.score.load_state_dict(self.score.state_dict())
        with complete_folder(into) as folder:
            whole.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / METRICS).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
            (folder / "LICENSE").write_bytes((Path(model) / "LICENSE").read_bytes())
