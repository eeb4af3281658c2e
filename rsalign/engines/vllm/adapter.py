"""LoRA adapters: what an engine needs for one, and vLLM's request for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.vllm.model_folder import ADAPTER_CONFIG, read_json

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's ``max_lora_rank``."""
_IDS = (1 << 31) - 1
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter in PEFT's format.

    Attributes:
        name: its path or Hugging Face id.
        rank: the greatest rank of its matrices; None: it is not on this machine yet.
        digest: of its content.
    """

    name: str
    rank: int | None
    digest: str

    @classmethod
    def read(cls, lora: str) -> "Adapter":
        """Reads the description of an adapter.

        Args:
            lora: the folder of the adapter, or its Hugging Face id.

        Raises:
            ConfigError: if the folder is missing or holds no LoRA adapter.
        """
        if not isinstance(lora, str) or not lora:
            raise ConfigError(f"lora={quote(lora)}: give the folder or the id of an adapter")
        files = ModelFiles.of(lora)
        if files.folder is None:
            if lora.startswith((".", "/", "~")):
                raise ConfigError(f"lora={lora!r}: there is no such folder")
            return cls(lora, None, files.digest())
        config = read_json(files.folder / ADAPTER_CONFIG)
        rank = config.get("r")
        if config.get("peft_type", "LORA") != "LORA" or not isinstance(rank, int):
            raise ConfigError(
                f"lora={lora!r}: give a folder with the {ADAPTER_CONFIG} of a LoRA adapter (vLLM "
                f"runs no other kind; peft_type is {config.get('peft_type')!r})"
            )
        if not any((files.folder / name).is_file() for name in _WEIGHTS):
            raise ConfigError(f"lora={lora!r} has no weights: {_WEIGHTS[0]} is missing")
        ranks = config.get("rank_pattern") or {}
        return cls(lora, max(rank, *ranks.values()) if ranks else rank, files.digest())

    def engine_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments of an engine with those that the adapter needs; `given` win."""
        needed: dict[str, Any] = {"enable_lora": True}
        if self.rank is not None:
            needed["max_lora_rank"] = next((r for r in _RANKS if r >= self.rank), self.rank)
        return needed | dict(given)

    def request(self, config: "VllmConfig") -> "LoRARequest":
        """Returns what goes with each request that the adapter answers.

        Raises:
            ConfigError: if an engine with this configuration takes no adapter, or none of its rank.
        """
        from vllm.lora.request import LoRARequest

        needs = ", ".join(f"{key}={value!r}" for key, value in self.engine_arguments({}).items())
        limits = config.lora_config
        if limits is None or (self.rank or 0) > int(limits.max_lora_rank):
            raise ConfigError(
                f"lora={self.name!r}: the engine of {config.model_config.model} cannot take this "
                f"adapter: start it with {needs}"
            )
        # equal ids are one adapter to vLLM: by its content, so that two policies may share it
        content = hashlib.blake2b(self.digest.encode(), digest_size=4).digest()
        number = 1 + int.from_bytes(content, "big") % _IDS
        return LoRARequest(self.name, number, self.name)
