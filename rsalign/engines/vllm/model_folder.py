"""Checks what is given as a model, before an engine is started for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.engines.model_files import ModelFiles

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
_MISTRAL_CONFIG = "params.json"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_LOADED_FROM_WEIGHTS = ("auto", "hf", "safetensors", "pt", "mistral")


def check_model(model: str, load_format: object = "auto") -> None:
    """Refuses what is no model that vLLM can start; reads small files of this machine only.

    Args:
        model: path or Hugging Face id.
        load_format: vLLM's; some formats have no files of weights.

    Raises:
        ConfigError: if it is missing, a file, an adapter, in GGUF, or has no configuration or no
            weights. An id that is not in the cache of this machine is left to vLLM.
    """
    path = Path(model)
    if not path.exists():
        if path.is_absolute() or model.startswith((".", "~")):
            raise ConfigError(
                f"there is no model at {model}: give the path of a folder with config.json, or a "
                "Hugging Face id such as org/name"
            )
        folder = ModelFiles.of(model).folder
        if folder is not None and folder.is_dir() and not _has(folder, CONFIG, _MISTRAL_CONFIG):
            _refuse_adapter(model, folder)
        if path.suffix == ".gguf":
            _refuse_gguf(model)
        return
    if path.suffix == ".gguf":
        _refuse_gguf(model)
    if not path.is_dir():
        raise ConfigError(f"{model} is a file: give the folder of the model, with config.json")
    if not _has(path, CONFIG, _MISTRAL_CONFIG):
        _refuse_adapter(model, path)
        if any(path.glob("*.gguf")):
            _refuse_gguf(model)
        raise ConfigError(
            f"{model} has no config.json: give the folder of a Hugging Face model (a checkpoint of "
            "a trainer is often in a folder inside, such as checkpoint-500)"
        )
    read_json(path / CONFIG)
    has_weights = any(any(path.glob(pattern)) for pattern in _WEIGHTS)
    if not has_weights and load_format in _LOADED_FROM_WEIGHTS:
        if any(path.glob("*.gguf")):
            _refuse_gguf(model)
        raise ConfigError(
            f"{model} has config.json, but no weights ({', '.join(_WEIGHTS)}): save or download "
            "them, too"
        )


def is_quantized(model: str, engine_args: Mapping[str, Any]) -> bool:
    """Tells whether a model runs with quantized weights, by its files and the arguments."""
    folder = ModelFiles.of(model).folder
    config = read_json(folder / CONFIG) if folder is not None and folder.is_dir() else {}
    return bool(engine_args.get("quantization") or config.get("quantization_config"))


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; empty if there is no such file.

    Raises:
        ConfigError: if it has something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as broken:
        raise ConfigError(f"{path} is not valid JSON ({broken}): save the model again") from broken
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no JSON object: save the model again")
    return found


def _has(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)


def _refuse_adapter(model: str, folder: Path) -> None:
    if not _has(folder, ADAPTER_CONFIG):
        return
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "its base model"
    raise ConfigError(
        f"{model} is an adapter (LoRA) and no whole model: as a policy give the model {base} with "
        f"lora={model!r}; as a reward merge it into its base model first (merge_and_unload of "
        "PEFT) and give the folder that this is saved in"
    )


def _refuse_gguf(model: str) -> None:
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

    if "gguf" in QUANTIZATION_METHODS:
        return
    raise ConfigError(
        f"{model} is in the format GGUF, which this vLLM cannot load: give the original model, or "
        "convert it (transformers: from_pretrained(folder, gguf_file=...), then save_pretrained)"
    )
