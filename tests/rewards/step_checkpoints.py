"""Small process reward models of public layouts: random weights, the embedded vocabulary."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
)

from rsalign.embedded import REWARD

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,  # so that values differ from step to step
    "tie_word_embeddings": False,
}


def build_step_model(kind: str, folder: Path, *, seed: int = 0, source: str = REWARD) -> str:
    """Writes a checkpoint as the public models of its kind are laid out; returns its path.

    Args:
        kind: "process" (Qwen2.5-Math-PRM), "token_labels" (TRL), "causal", "value_head"
            (Skywork-o1), or "one_label".
        folder: where it is written.
        seed: of the weights.
        source: id or path of the tokenizer, which gets the separators as tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(
        [AddedToken(text, special=True) for text in ("<extra_0>", "ки")], special_tokens=True
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": len(tokenizer)}
    if kind == "process":
        _save_process(folder, sizes)
    elif kind == "token_labels":
        model = LlamaForTokenClassification(LlamaConfig(**sizes, num_labels=2))
        torch.nn.init.normal_(model.score.bias)
        model.save_pretrained(folder)
    elif kind == "one_label":
        LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=1)).save_pretrained(folder)
    else:
        made = LlamaForCausalLM(LlamaConfig(**sizes)) if kind == "causal" else None
        made = made or Qwen2ForCausalLM(Qwen2Config(**sizes))
        made.save_pretrained(folder)
        if kind == "value_head":
            weights = load_file(folder / "model.safetensors")
            weights["v_head.summary.weight"] = torch.randn(1, sizes["hidden_size"]) / 8
            weights["v_head.summary.bias"] = torch.randn(1)
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def _save_process(folder: Path, sizes: dict) -> None:
    """As Qwen2.5-Math-PRM is saved: two layers of a head, and no number of labels on file."""
    body = Qwen2Model(Qwen2Config(**sizes))
    body.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["Qwen2ForProcessRewardModel"]
    (folder / "config.json").write_text(json.dumps(config))
    width = sizes["hidden_size"]
    weights = {f"model.{name}": value.contiguous() for name, value in body.state_dict().items()}
    weights |= {
        "score.0.weight": torch.randn(width, width) / 8,
        "score.0.bias": torch.randn(width),
        "score.2.weight": torch.randn(2, width) / 8,
        "score.2.bias": torch.randn(2),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
