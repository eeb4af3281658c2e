"""What vLLM's engines know of the model that they run, whichever kind of engine it is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class ModelParts:
    """The configuration, tokenizer and renderer of the engine in `_engine`."""

    _engine: Any

    @property
    def vllm_config(self) -> "VllmConfig":
        """The engine's whole configuration."""
        config: VllmConfig = self._engine.vllm_config
        return config

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._engine.get_tokenizer()

    @property
    def renderer(self) -> Any:
        """What vLLM renders conversations with."""
        return self._engine.renderer
