"""A small model whose whole vocabulary is used: no token is spare, and some ids have no text."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ("</s>", "yes", "no", ".", "1", "2", "=")
VOCAB = len(WORDS) + 2
"""The model has a probability for two ids more than its tokenizer knows."""


def save_model(folder, *, max_position_embeddings=128, **config):
    """Saves the model and its tokenizer; its laws differ from place to place, and are not sharp."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}{{ m['content'] + ' = ' }}{% endfor %}"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=WORDS[0], chat_template=template
    ).save_pretrained(folder)
    torch.manual_seed(5)
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": max_position_embeddings,
        "eos_token_id": 0,
        "bos_token_id": None,
        "initializer_range": 0.12,
    }
    LlamaForCausalLM(LlamaConfig(**sizes | config)).save_pretrained(folder)
    return str(folder)


def save_adapter(folder, model, *, rank=4, seed=1, **config):
    """Saves a LoRA adapter of the model in PEFT's format, and the model with it merged in."""
    folder.mkdir()
    merged = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(seed)
    weights, alpha = {}, 2 * rank
    for i, layer in enumerate(merged.model.layers):
        for name in ("q_proj", "o_proj"):
            weight = getattr(layer.self_attn, name).weight
            down, up = torch.randn(rank, 64) * 0.3, torch.randn(64, rank) * 0.3
            place = f"base_model.model.model.layers.{i}.self_attn.{name}"
            weights |= {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up}
            weight.data += alpha / rank * up @ down
    save_file(weights, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "base_model_name_or_path": model,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": ["q_proj", "o_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described | config))
    return str(folder), merged.eval()
