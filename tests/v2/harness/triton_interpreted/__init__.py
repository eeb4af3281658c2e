"""A back end named "cpu" for Triton that compiles nothing: kernels run in Triton's interpreter.

vLLM's second model runner, the default on GPUs, has a class for CPUs, which needs a Triton with a
"cpu" back end. Triton has none. A folder on ``PYTHONPATH`` that holds this package and the entry
point beside it (`triton.backends`) registers one, in all processes that inherit the environment.
With ``TRITON_INTERPRET=1`` every kernel of the runner is then executed by Triton's own interpreter,
on tensors of the CPU. Of vLLM's files none is changed; see `patches` for the one choice that is.
"""
