"""vLLM in process or beside it, behind one protocol; everything version-specific is here."""
