"""What Triton's interpreter needs to run vLLM's second model runner on a CPU, and soon.

Triton imports this package before its interpreter exists, and vLLM's modules come later still, so
that each patch is applied when its module has been imported.
"""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

Patch = Callable[[ModuleType], None]


def install() -> None:
    """Registers the patches of this file; each is applied once, when its module is imported."""
    finder = _PatchingFinder(
        {
            "triton.runtime.interpreter": _complete,
            "vllm.v1.sample.ops.topk_topp_sampler": _truncate_by_pytorch,
        }
    )
    sys.meta_path.insert(0, finder)


class _PatchingFinder:
    """Finds modules as Python would, and patches some after they have been executed."""

    def __init__(self, patches: dict[str, Patch]) -> None:
        self._patches = patches

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        patch = self._patches.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _truncate_by_pytorch(module: ModuleType) -> None:
    """Has vLLM use its own PyTorch function for top-k and top-p in place of its Triton kernel.

    That kernel calls `.to` on the variable of a `tl.range`, which is an int in the interpreter.
    It is the only kernel of the runner's that is not run.
    """
    module.HAS_TRITON = False


def _complete(interpreter: ModuleType) -> None:
    _accept_masks_of_integers(interpreter)
    _launch_quickly(interpreter)


def _accept_masks_of_integers(interpreter: ModuleType) -> None:
    """Stores by masks that are integers, which Triton's compiler takes for what they are: 0 or 1.

    The kernel that applies a grammar computes such a mask.
    """
    builder = type(interpreter.interpreter_builder)
    store = builder.create_masked_store

    def create_masked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        mask.data = mask.data.astype(bool)
        return store(self, pointers, value, mask, *rest)

    builder.create_masked_store = create_masked_store


def _launch_quickly(interpreter: ModuleType) -> None:
    """Launches kernels without copies, and patches Triton's language once for each kernel.

    The interpreter copies every tensor to the host and back, and looks at each integer for an
    overflow, of which the hashes behind random numbers are full: without this, one token takes
    several times as long. The kernels and their results stay the same.
    """
    builder, convert = interpreter.interpreter_builder, interpreter._implicit_cvt
    object.__setattr__(builder.options, "sanitize_overflow", False)
    signature, patch = functools.cache(inspect.signature), functools.cache(interpreter._patch_lang)

    class Kept:
        restore = staticmethod(lambda: None)

    def patch_once(function: Any) -> type[Kept]:
        patch(function)
        return Kept

    def launch(self: Any, *args: Any, **kwargs: Any) -> None:
        known = signature(self.fn)
        bound = known.bind(*args, **{k: v for k, v in kwargs.items() if k in known.parameters})
        bound.apply_defaults()
        given = {
            name: value if name in self.constexprs else convert(value)
            for name, value in bound.arguments.items()
        }
        patch(self.fn)
        grid = self.grid(given) if callable(self.grid) else self.grid
        width, height, depth = (*grid, 1, 1)[:3]
        builder.set_grid_dim(width, height, depth)
        for x in range(width):
            for y in range(height):
                for z in range(depth):
                    builder.set_grid_idx(x, y, z)
                    self.fn(**given)

    interpreter._patch_lang = patch_once
    interpreter.GridExecutor.__call__ = launch
