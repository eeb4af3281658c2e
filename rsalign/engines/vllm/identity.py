"""Identifies what an engine runs: its model, by content, and the settings that change its law."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.fingerprint import fingerprint
from rsalign.core.fingerprint.origin import read_source
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.vllm.environment import import_vllm

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_OF_THE_MODEL = (
    "quantization",
    "quantization_config",
    "hf_overrides",
    "code_revision",
    "tokenizer_mode",
    "override_generation_config",
    "disable_sliding_window",
    "pooler_config",
)
"""Fields of vLLM's `ModelConfig` that change a model's law and are not in its files."""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What a running engine runs, as it was when it was started or adopted.

    Two engines are equal if they run the same model, also from different folders, or one by a
    Hugging Face id and the other from a copy of its snapshot. What counts: weights, configuration,
    tokenizer, chat template, revision, precision (of weights or KV cache), quantization, adapters,
    overrides, length of the context, logits processors of the caller's, version of vLLM, and model
    runner (the other draws other tokens from the same seed). What does not count: how memory is
    divided, the number of devices, and vLLM's choice of kernels; they change rounding.

    Attributes:
        files: of the model and of everything else that is loaded from files, by role.
        settings: everything else, as plain data.
        tokenizer: the engine's.
    """

    files: tuple[tuple[str, ModelFiles], ...]
    settings: tuple[tuple[str, Any], ...]
    tokenizer: Any

    @classmethod
    def of(cls, config: "VllmConfig", tokenizer: Any) -> "EngineIdentity":
        """Describes an engine with this configuration; reads no files yet."""
        model = config.model_config
        cache = getattr(config.load_config, "download_dir", None)
        files = {"model": ModelFiles.of(model.model, model.revision, cache)}
        if model.tokenizer != model.model:
            files["tokenizer"] = ModelFiles.of(model.tokenizer, model.tokenizer_revision, cache)
        if (generation := model.generation_config) not in ("auto", "vllm"):
            files["generation"] = ModelFiles.of(generation, None, cache)
        adapters = getattr(config.lora_config, "default_mm_loras", None) or {}
        files |= {f"adapter {name}": ModelFiles.of(adapters[name]) for name in sorted(adapters)}
        settings = {name: _plain(getattr(model, name, None)) for name in _OF_THE_MODEL}
        settings |= {
            "vllm": import_vllm().__version__,
            "v2_runner": bool(getattr(config, "use_v2_model_runner", False)),
            "dtype": str(model.dtype),
            "cache_dtype": str(config.cache_config.cache_dtype),
            "max_model_len": model.max_model_len,
            "generation_config": generation if generation in ("auto", "vllm") else None,
            "random_weights": model.seed if config.load_config.load_format == "dummy" else None,
            "logits_processors": [
                _processor(one) for one in model.logits_processors or () if not _is_ours(one)
            ],
        }
        return cls(tuple(files.items()), tuple(settings.items()), tokenizer)

    @property
    def fingerprint(self) -> str:
        """A digest of files, settings and tokenizer.

        Raises:
            ConfigError: if files have changed since, or a setting has no value to compare.
        """
        content = [(role, one.digest()) for role, one in self.files]
        _, _, digest = fingerprint((content, self.settings, self.tokenizer)).rpartition(" ")
        return digest


def _plain(value: Any) -> Any:
    """A setting as plain data, without the names of vLLM's classes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name, None))
            for field in dataclasses.fields(value)
        }
    return value


def _processor(named: Any) -> Any:
    """A logits processor; with the text of its module where it is given as ``module:name``."""
    return (named, read_source(named.partition(":")[0])) if isinstance(named, str) else named


def _is_ours(processor: object) -> bool:
    home = processor if isinstance(processor, str) else getattr(processor, "__module__", "")
    return str(home).startswith("rsalign.")
