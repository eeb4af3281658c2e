"""What an engine runs, by content: its model, and all settings that change what it says."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.fingerprint import fingerprint
from rsalign.core.fingerprint.origin import read_source
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.vllm.guards import import_vllm

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
"""Fields of vLLM's `ModelConfig` that change what a model says, and are not told by its files."""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """A running engine as it was when it was started or adopted.

    The same model in another folder, or as a Hugging Face id and as a copy of its snapshot, is the
    same. Another are: other weights, configuration, tokenizer or chat template, revision, precision
    (of the weights or of the cache), quantization, adapters, overrides, length of the context,
    the caller's own logits processors, version of vLLM, and vLLM's other model runner, which draws
    other tokens from the same seed. Not told are how memory is divided, how many devices there are,
    and which kernels vLLM has chosen; they change rounding.

    Attributes:
        files: of the model and of what else is loaded from files, by role.
        settings: all else, as plain data.
        tokenizer: the engine's.
    """

    files: tuple[tuple[str, ModelFiles], ...]
    settings: tuple[tuple[str, Any], ...]
    tokenizer: Any

    @classmethod
    def of(cls, config: "VllmConfig", tokenizer: Any) -> "EngineIdentity":
        """What an engine so configured runs; quick, files are read when they are needed."""
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
        """A digest of it all.

        Raises:
            ConfigError: if files have changed since, or a setting has no value to compare.
        """
        content = [(role, one.digest()) for role, one in self.files]
        _, _, digest = fingerprint((content, self.settings, self.tokenizer)).rpartition(" ")
        return digest


def _plain(value: Any) -> Any:
    """Settings without the names of vLLM's classes, which carry its version a second time."""
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
