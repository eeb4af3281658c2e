"""What runs inside vLLM's sampler; engines load it by path, and nothing here is imported for it.

`rsalign.hooks.v1:SegmentEnd` and `rsalign.hooks.v2:SegmentEnd` are one rule for vLLM's two model
runners; a server takes the one that fits its runner by ``--logits-processors``.
"""
