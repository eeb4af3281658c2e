"""Aligned answers from a `vllm.LLM` that the caller already has."""
