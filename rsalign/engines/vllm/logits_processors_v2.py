"""The interface of logits processors in vLLM's second model runner (`vllm.v1.worker.gpu`)."""

from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)

__all__ = ["LogitsContext", "LogitsProcRequestState", "LogitsProcessor"]
