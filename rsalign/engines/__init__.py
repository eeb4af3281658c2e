"""Engines: running models that draw completions and score sequences.

`protocol` says what an engine is, in types of rsalign's own. `vllm` implements it with vLLM, in
this process or in one of its own. `remote` and `answers` speak to a server over HTTP, and
`affinity` chooses the replica. `options` is what goes with each request, `reports` what hooks
measured of it, and `model_files` identifies a model by its content.
"""
