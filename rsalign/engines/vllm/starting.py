"""Starts a vLLM engine, or takes over a running one: the way in for policies and rewards."""

from typing import Any, get_args

from rsalign.core.errors import ConfigError
from rsalign.engines.protocol import Backend
from rsalign.engines.vllm.asynchronous import AsyncEngine
from rsalign.engines.vllm.building import Prepare, leave_config
from rsalign.engines.vllm.environment import import_vllm, is_cpu_build
from rsalign.engines.vllm.inprocess import InProcessEngine
from rsalign.engines.vllm.progress import say_while


def start_engine(
    model: str,
    *,
    backend: Backend = "auto",
    pooling: bool = False,
    prepare: Prepare = leave_config,
    **engine_args: Any,
) -> InProcessEngine | AsyncEngine:
    """Starts an engine for a model.

    Args:
        model: path or Hugging Face id.
        backend: ``"in_process"`` starts in about 2 s; ``"async"`` gives the engine a process of its
            own. ``"auto"`` is the first on a CPU build of vLLM, otherwise the second.
        pooling: for a reward model; False for a model that generates.
        prepare: may change vLLM's configuration before the engine is built.
        engine_args: for vLLM's `EngineArgs`; they win over what rsalign sets.

    Raises:
        InstallError: if vLLM is missing.
        ConfigError: if there is no such backend, the model is missing, or vLLM refuses the model or
            the arguments.
    """
    import_vllm()
    if backend not in get_args(Backend):
        raise ConfigError(f"backend={backend!r}: choose 'auto', 'in_process' or 'async'")
    if backend == "auto":
        backend = "in_process" if is_cpu_build() else "async"
    kind = InProcessEngine if backend == "in_process" else AsyncEngine
    with say_while(f"starting an engine for {model}"):
        return kind.start(model, pooling=pooling, prepare=prepare, **engine_args)


def adopt_engine(engine: Any) -> InProcessEngine | AsyncEngine:
    """Wraps a running engine of the caller's, which runs on when the wrapper is closed.

    Args:
        engine: a `vllm.LLM`, `LLMEngine` or `AsyncLLM`.

    Raises:
        ConfigError: if it is none of these.
    """
    import_vllm()
    from vllm import LLM
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.llm_engine import LLMEngine

    if isinstance(engine, LLM):
        engine = engine.llm_engine
    if isinstance(engine, LLMEngine):
        return InProcessEngine(engine, owns=False)
    if isinstance(engine, AsyncLLM):
        return AsyncEngine(engine)
    raise ConfigError(
        f"cannot use a {type(engine).__name__} as an engine: give a model id or path, a vllm.LLM, "
        "an AsyncLLM or a Policy"
    )
