"""The number of a model's labels where its configuration does not say it: that of its weights."""

import json
import struct
from pathlib import Path

_HEADS = ("score", "classifier", "classifier.out_proj", "score.out_proj", "v_head")
"""Modules whose last weight has one row for each label."""


def says_labels(model: str, revision: str | None, cache: str | None) -> bool:
    """Whether a model's `config.json` says how many labels it has; 2 is transformers' default."""
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(model, revision=revision, cache_dir=cache)
    return bool({"num_labels", "id2label", "_num_labels"} & set(config))


def num_labels_in_weights(folder: Path | None) -> int | None:
    """Returns the number of rows of a model's classification head.

    Args:
        folder: of the model; None: not on this machine.

    Returns:
        None if there is no such head, or no weights in the safetensors format here.
    """
    if folder is None or not folder.is_dir():
        return None
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
        for name in _HEADS:
            if f"{name}.weight" in header:
                return int(header[f"{name}.weight"]["shape"][0])
    return None
