"""Logits processors that run inside vLLM's sampler; an engine loads them by their import paths.

- `Guided` draws from the product of the policy and of models that reward each token.
- `TokenStatistics` measures how certain the model is of each token.
- `SegmentEnd` ends a segment where the model is uncertain, or after a mark.
- `Arithmetic` spreads the samples of one request evenly.

Each does nothing for a request that does not name it in its `extra_args`. Each exists twice, as
``rsalign.hooks.v1:SegmentEnd`` and ``rsalign.hooks.v2:SegmentEnd``: one rule for vLLM's two model
runners. An engine that rsalign starts has them all (`Guided` if it is given guides;
`rsalign.hooks.loading`). For a server, name those of its runner by ``--logits-processors``, in the
order of this page.

The folder of a hook holds what a request may ask of it (`request`), what is computed (`rule`), and
one class for each runner (`v1`, `v2`).
"""
