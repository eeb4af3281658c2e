"""Builds small checkpoints that have the vocabularies, templates and settings of real families.

    python -m tests.families.checkpoints

Each has two layers of width 64 in float32 with random weights from a fixed seed. They are built
once, in the folder of `tests.families.cache`, and anew when what they are made of changes: other
clones may use the old ones, so that these stay until someone removes the folder.
"""

import hashlib
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.families.cache import place, root
from tests.families.families import FAMILIES, Family
from tests.families.fetch import FetchError, fetch_all, folder_of

TEMPLATES = Path(__file__).parent / "templates"
SEED = 0
POSITIONS = 4096
BODY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": POSITIONS,
    # wide enough that next tokens differ in probability and rewards differ between answers
    "initializer_range": 0.3,
}
CLASSES = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3Text",
    "mistral": "Mistral",
}
"""The beginning of the names of transformers' classes. Qwen2 takes no ``head_dim``."""


def policy_folder(family: Family) -> Path:
    """A language model of the family, built if it is not there."""
    return _folder(family, "policy", _write_policy)


def reward_folder(family: Family) -> Path:
    """A reward model of the family with one label, built if it is not there.

    It is a ``...ForSequenceClassification`` of transformers.
    """
    return _folder(family, "reward", _write_reward)


def build(family: Family, folder: Path, head: str, *, seed: int = SEED, **settings: Any) -> Any:
    """Writes a checkpoint with the family's body and tokenizer and the head that is asked for.

    Args:
        family: Whose body, tokenizer and settings.
        folder: Where to write; it exists.
        head: The end of the class's name, such as ``ForTokenClassification``.
        seed: Of the weights.
        settings: Of the configuration, such as ``num_labels=2``.

    Returns:
        The model.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    write_tokenizer(family, folder)
    prefix = CLASSES[family.body]
    config = getattr(transformers, f"{prefix}Config")(**_config(family), **settings)
    names = (f"{prefix}{head}", f"{prefix.removesuffix('Text')}{head}")
    model_class = next(found for name in names if (found := getattr(transformers, name, None)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config).to(torch.float32).eval()
    model.save_pretrained(folder)
    return model


def write_tokenizer(family: Family, folder: Path) -> None:
    """Writes the tokenizer's files as the model's own folder has them."""
    fetched = folder_of(family.tokenizer)
    if not fetched.is_dir():
        raise FetchError(f"no tokenizer in {fetched}: run `make families`")
    config_file = fetched / "tokenizer_config.json"
    if not config_file.is_file():  # Mistral's own format has one file
        for file in fetched.iterdir():
            if file.name != "LICENCE.txt":
                shutil.copy(file, folder)
        return
    config = json.loads(config_file.read_text())
    tokenizer = json.loads((fetched / "tokenizer.json").read_text())
    if family.template:
        config["chat_template"] = (TEMPLATES / family.template).read_text()
    elif (fetched / "chat_template.jinja").is_file():
        config["chat_template"] = (fetched / "chat_template.jinja").read_text()
    if family.tokenizer_class:
        config["tokenizer_class"] = family.tokenizer_class
        config.pop("auto_map", None)
    if family.named_tokens:
        _name_tokens(tokenizer, family.named_tokens)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))


def _name_tokens(tokenizer: dict[str, Any], names: Mapping[int, str]) -> None:
    """Gives entries of the vocabulary other names, and makes them special tokens."""
    by_id = {token_id: token for token, token_id in tokenizer["model"]["vocab"].items()}
    by_id |= names
    tokenizer["model"]["vocab"] = {token: token_id for token_id, token in by_id.items()}
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    tokenizer["added_tokens"] = [
        {"id": token_id, "content": token, "special": True, **flags}
        for token_id, token in names.items()
    ]


def token_ids(family: Family) -> dict[str, int]:
    """The ids of the family's named tokens: ends of answers, beginning of texts, padding."""
    names = {*family.ends, family.starts_text, family.pads} - {None}
    file = folder_of(family.tokenizer) / "tokenizer.json"
    ids = {"<s>": 1, "</s>": 2}  # in all tokenizers of mistral_common
    if file.is_file():
        tokenizer = json.loads(file.read_text())
        ids = dict(tokenizer["model"]["vocab"])
        ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        ids |= {token: token_id for token_id, token in family.named_tokens.items()}
    return {name: ids[name] for name in names}


def _config(family: Family) -> dict[str, Any]:
    ids = token_ids(family)
    body = {
        key: value for key, value in BODY.items() if (family.body, key) != ("qwen2", "head_dim")
    }
    ends = [ids[name] for name in family.ends]
    return {
        **body,
        "vocab_size": family.vocab_size,
        "tie_word_embeddings": family.is_tied,
        "bos_token_id": ids[family.starts_text] if family.starts_text else None,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": ids[family.pads] if family.pads else None,
        **family.body_settings,
    }


def _write_policy(family: Family, folder: Path) -> None:
    build(family, folder, "ForCausalLM")
    config = _config(family)
    generation = {
        key: config[key]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        if config[key] is not None
    }
    generation |= {"do_sample": True, **family.sampling}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))


def _write_reward(family: Family, folder: Path) -> None:
    # another seed than the policy's, so that the two are not one body
    build(family, folder, "ForSequenceClassification", seed=SEED + 1, num_labels=1)


def _folder(family: Family, kind: str, write: Any) -> Path:
    target = root() / "checkpoints" / f"{family.name}-{kind}-{_version(family)}"
    return place(target, lambda folder: write(family, folder))


def _version(family: Family) -> str:
    """Of all that a checkpoint is made of: the family, this file, the template, the libraries."""
    digest = hashlib.sha256(repr(family).encode())
    digest.update(Path(__file__).read_bytes())
    if family.template:
        digest.update((TEMPLATES / family.template).read_bytes())
    for library in ("torch", "transformers"):
        digest.update(importlib.metadata.version(library).encode())
    return digest.hexdigest()[:12]


def main() -> None:
    try:
        fetch_all()
        for family in FAMILIES:
            print(policy_folder(family))
            print(reward_folder(family))
    except FetchError as error:
        sys.exit(f"checkpoints: {error}")


if __name__ == "__main__":
    main()
