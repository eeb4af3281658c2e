"""A small model whose whole vocabulary is used: no token is spare, and some ids have no text."""

import torch
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
