"""Policies of the families that draw a few tokens often, and all others, too."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

from rsalign.hooks.segment_end.sentinel import find_spare_token
from tests.families.cache import place
from tests.families.checkpoints import policy_folder, token_ids
from tests.families.families import Family

WORDS = (".", "yes")
SIGNAL = 8.0
"""Of the first of the 64 numbers of a state, which tells the head what is likely everywhere."""
UNEVEN = 0.15
"""Standard deviation of the head's weights for likely tokens, which are not so in each place."""


def likely_tokens(family: Family, tokenizer: Any) -> tuple[int, ...]:
    """The ends of an answer (two at most), a mark, a word, and a token without a text."""
    ids = token_ids(family)
    ends = [ids[name] for name in family.ends]
    words = [tokenizer.encode(word, add_special_tokens=False)[-1] for word in WORDS]
    spare = find_spare_token(tokenizer, family.vocab_size, ends)  # may be excluded
    last = family.vocab_size - 1
    unknown = [last] if last >= len(tokenizer) else []
    without_text = [
        token for token in (*unknown, *tokenizer.all_special_ids) if token not in (*ends, spare)
    ]
    return (*ends[:2], *words, *without_text[:1])


def likely_folder(family: Family, tokenizer: Any) -> Path:
    """The family's policy with likely tokens, built if it is not there.

    Where an answer begins they share half of the probability. Each has its part of it; the other
    half is for the rest of the vocabulary.
    """
    like = policy_folder(family)
    target = like.with_name(f"{like.name}-likely")
    return place(target, lambda folder: _write(family, likely_tokens(family, tokenizer), folder))


def _write(family: Family, likely: Sequence[int], folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source = policy_folder(family)
    copytree(source, folder, dirs_exist_ok=True)
    config = json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        embedding = model.get_input_embeddings().weight
        head = torch.nn.Linear(embedding.shape[1], embedding.shape[0], bias=False)
        head.weight.normal_(0, UNEVEN / 3)
        model.lm_head = head
        embedding[:, 0] = SIGNAL
        for layer in model.base_model.layers:  # which leave the signal as it is
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        state = model.base_model(torch.tensor([list(likely)])).last_hidden_state
        signal = state[0, -1, 0].item()
        head.weight[:, 0] = 0
        head.weight[list(likely)] *= 3
        head.weight[list(likely), 0] = math.log(embedding.shape[0] / len(likely)) / signal
    model.save_pretrained(folder)
