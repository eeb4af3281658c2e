"""Ends segments inside vLLM's sampler: where the model is uncertain, or after a mark."""
