"""Language models as policies (`rsalign.core.protocols.Policy`): in vLLM, or behind its server."""
