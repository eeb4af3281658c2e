"""Models of a chosen size with the law of a small one, so that benchmarks have arithmetic to do.

A Llama checkpoint is made wider and deeper without a change of what it computes:

- the hidden state is padded with zeros. RMSNorm divides by the root of a mean over all of it, so
  that the weights of norms are divided by the square root of the growth, and epsilon by the growth;
- new heads and new units of the feed-forward layers have random weights, and write nothing;
- new layers write nothing, either: their output projections are zero.

Logits and rewards are then those of the small model up to rounding.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

from rsalign.core.errors import ConfigError

CACHE = Path.home() / ".cache" / "rsalign" / "grown"
_READS_HIDDEN = tuple(f"{name}_proj.weight" for name in ("q", "k", "v", "gate", "up"))
_WRITES_HIDDEN = ("o_proj.weight", "down_proj.weight")
_HIDDEN_PER_LAYER = 32  # as deep as models of the usual proportions are for their width
_COPIED = ("*token*", "chat_template*", "generation_config.json")


def grow(model: str, num_parameters: int, cache: Path = CACHE) -> str:
    """Returns the folder of a model with the same law and about so many parameters.

    The model is made at the first call, and found in the cache later.

    Args:
        model: folder of a Llama checkpoint, a language model or a classifier with one label.
        num_parameters: wanted; at least as many as the model has.
        cache: folder of grown models.

    Raises:
        ConfigError: if the model is of another kind, or not smaller.

    Example:
        >>> from rsalign.embedded import POLICY
        >>> folder = grow(POLICY, 50_000_000)  # doctest: +SKIP
    """
    folder = Path(model)
    config = _read_config(folder)
    hidden, layers = _choose_shape(config, num_parameters)
    content = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file in sorted(folder.glob("*.safetensors")):
        content.update(file.read_bytes())
    target = cache / f"{folder.name}-{hidden}x{layers}-{content.hexdigest()[:12]}"
    if not (target / "config.json").is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        _save_grown(folder, target, hidden, layers)
    return str(target)


def count_parameters(model: str) -> int:
    """The number of weights that a folder holds."""
    from safetensors import safe_open

    total = 0
    for file in Path(model).glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            names = list(weights.keys())
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    return total


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    if config.get("model_type") != "llama" or config.get("attention_bias"):
        raise ConfigError(
            f"{folder} cannot be grown: only the folder of a Llama checkpoint without biases can, "
            "such as that of the embedded models; leave out --grown for others"
        )
    found: dict[str, Any] = config
    return found


def _choose_shape(config: dict[str, Any], num_parameters: int) -> tuple[int, int]:
    """The width, a multiple of the old one, and the number of layers."""
    old, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    ratio = float(config["intermediate_size"]) / old
    kv = config.get("num_key_value_heads", config["num_attention_heads"])
    shared = float(kv) / float(config["num_attention_heads"])

    def layers_for(hidden: int) -> int:
        of_a_layer = hidden**2 * (2 + 2 * shared + 3 * ratio)
        return round((num_parameters - int(config["vocab_size"]) * hidden) / of_a_layer)

    shapes = [(old * factor, layers_for(old * factor)) for factor in range(1, 65)]
    fitting = [shape for shape in shapes if shape[1] >= layers]
    if not fitting:
        raise ConfigError(
            f"a model of hidden size {old} and {layers} layers has more than {num_parameters} "
            "parameters: give a greater number to --grown"
        )
    return min(fitting, key=lambda shape: abs(math.log(shape[1] * _HIDDEN_PER_LAYER / shape[0])))


def _save_grown(source: Path, target: Path, hidden: int, num_layers: int) -> None:
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    config = AutoConfig.from_pretrained(source)
    judges = "SequenceClassification" in config.architectures[0]
    kind = AutoModelForSequenceClassification if judges else AutoModelForCausalLM
    small = kind.from_pretrained(source, dtype=torch.float32).state_dict()
    factor, old_layers = hidden // config.hidden_size, config.num_hidden_layers
    for name in (
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
    ):
        setattr(config, name, getattr(config, name) * factor)
    config.num_hidden_layers, config.dtype = num_layers, "float32"
    config.rms_norm_eps /= factor
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        grown = kind.from_config(config).float()
    with torch.no_grad():
        for name, weight in grown.state_dict().items():
            _, _, place = name.partition(".layers.")
            if place and int(place.split(".")[0]) >= old_layers:
                if name.endswith(_WRITES_HIDDEN):
                    weight.zero_()
                continue
            _fill(name, weight, small[name], factor)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    grown.save_pretrained(part)
    for pattern in _COPIED:
        for file in source.glob(pattern):
            shutil.copy(file, part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _fill(name: str, weight: Any, small: Any, factor: int) -> None:
    """Writes a small weight into the corner of the grown one, in place."""
    if weight.dim() == 1:  # of a norm
        weight.zero_()
        weight[: len(small)] = small / math.sqrt(factor)
        return
    rows, columns = small.shape
    if name.endswith(_READS_HIDDEN):
        weight[:rows].zero_()  # the rows below are of new heads and units, and stay random
    else:
        weight.zero_()
    weight[:rows, :columns] = small
