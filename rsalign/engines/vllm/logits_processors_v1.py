"""The interface of logits processors in vLLM's first model runner (`vllm.v1.worker`)."""

from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

__all__ = ["BatchUpdate", "LogitsProcessor", "MoveDirectionality"]
