"""What runs inside vLLM's sampler; engines load it by path, and nothing here is imported for it.

`Guided` draws from the product of the policy and of models that reward each token;
`TokenStatistics` measures how certain the model is of each token; `SegmentEnd` ends segments where
it is uncertain, or after a mark; `Arithmetic` spreads the samples of a request jointly. Each is
inert unless a request names it in `extra_args`. All exist twice, in `rsalign.hooks.v1` and
`rsalign.hooks.v2`, which are one rule for vLLM's two model runners; engines that rsalign starts
have them (`Guided`, if they are given guides), and a server takes those that fit its runner by
``--logits-processors``, in the order of this page.
"""
