"""Checks that a CPU engine fits into memory before it is started."""

from pathlib import Path
from typing import TYPE_CHECKING

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.environment import is_cpu_build

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_GIB = 1 << 30


def check_memory(config: "VllmConfig") -> None:
    """Refuses an engine on a CPU whose KV cache and weights need more memory than is free.

    vLLM's CPU build fills its whole KV cache with zeros at the start, and by default takes nearly
    all memory of the machine for it. A second engine, such as the reward's, then makes the system
    kill one of the two without a message. On a GPU vLLM itself refuses.

    Raises:
        ConfigError: if so.
    """
    if not is_cpu_build():
        return
    import psutil

    cache = config.cache_config.kv_cache_memory_bytes or 0
    weights = _weights_on_disk(config.model_config.model)
    free = psutil.virtual_memory().available
    if cache + weights > free:
        raise ConfigError(
            f"an engine for {config.model_config.model} needs {cache / _GIB:.1f} GiB for its KV "
            f"cache and at least {weights / _GIB:.1f} GiB for its weights, but only "
            f"{free / _GIB:.1f} GiB of memory is free: give a smaller kv_cache_memory_bytes, or "
            "free memory. A vLLM server on a CPU takes nearly all memory unless "
            "VLLM_CPU_KVCACHE_SPACE=4 (GiB) is set in its environment, or "
            "--kv-cache-memory-bytes among its flags"
        )


def _weights_on_disk(model: str) -> int:
    """Bytes of a model's weights, where they are in a folder of this machine; otherwise 0."""
    return sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
