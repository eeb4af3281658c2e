"""Lets vLLM look at model classes in this process, where it would start another one for each.

Before it builds an engine, vLLM asks the model's class what it can do. It asks in a process of its
own, because importing a model may initialise CUDA, and keeps the answer in a file. Without the
file, on a new machine or in a fresh container, each class costs an import of vLLM: 10 s of the 45 s
that the first start of a policy and a reward took, for each of the two. A CPU build has no CUDA to
initialise, and an engine in this process imports the class in any case.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def inspect_models_here() -> None:
    """Lets vLLM inspect models in this process from now on; for CPU builds only."""
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = _run


def _run(function: Callable[[], T]) -> T:
    return function()
