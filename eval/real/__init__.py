"""One real model: SmolLM2-135M-Instruct, and two reward models that are trained on top of it.

``make real`` (`eval.real.__main__`) fetches, converts, trains and measures, into a cache outside
the repository (`eval.real.cache`); ``docs/real_model.md`` says what comes of it.
"""
