"""The adapter to vLLM: the only package that imports vLLM's internal modules."""
