"""What all hooks share, for each of vLLM's two model runners."""
