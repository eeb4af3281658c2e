"""What vLLM raises while it starts an engine, as errors that say what to do."""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from rsalign.core.errors import ConfigError, RsalignError
from rsalign.engines.vllm.model_folder import check_model

_ADVICE: Mapping[str, str] = {
    "KV cache is needed": "Give a smaller max_model_len, or more kv_cache_memory_bytes",
    "out of memory": "Use a smaller model or a quantized one, or free memory",
    "allocate memory": "Use a smaller model or a quantized one, or free memory",
    "not supported for quantization method": "Give dtype= as it says, in engine_args",
    "Unknown quantization method": "Give the checkpoint that is not quantized, or quantized for "
    "vLLM on this machine",
    "RuntimeError: _C::": "vLLM's build for this machine lacks a kernel that the checkpoint needs, "
    "as CPUs do for fp8: give one that is not quantized, or one of int8 (compressed-tensors), GPTQ "
    "or AWQ",
    "Engine core initialization failed": "The lines above, of the engine's own process, say why",
    "trust_remote_code": "Give trust_remote_code=True in engine_args if you trust the model's code",
    "SafetensorError": "A file of its weights is damaged or not complete: download it again",
    "backend tokenizer": "Its tokenizer is missing: save it in the same folder, or give tokenizer= "
    "in engine_args",
}
"""What to do, by a part of vLLM's message."""
_USUAL_ADVICE = "Check the model's name and engine_args"
_FILES_ADVICE = (
    "Its files (weights, config.json, tokenizer) may not fit together, or vLLM may lack what the "
    "model needs; the cause has the place"
)
_OF_THE_CODE = (AssertionError, AttributeError, LookupError, RuntimeError)
"""What a model's code raises where its files do not fit together, often without a message."""
_LONGEST = 500  # characters: some messages list everything that vLLM knows


@contextlib.contextmanager
def convert_start_errors(model: str, engine_args: Mapping[str, Any]) -> Iterator[None]:
    """Checks what is given as a model, and converts what vLLM raises while it starts an engine.

    Args:
        model: path or Hugging Face id.
        engine_args: of the engine.

    Raises:
        ConfigError: if the model is missing, or vLLM cannot start it with these arguments; its
            cause is what vLLM raised.
    """
    check_model(model, engine_args.get("load_format", "auto"))
    try:
        yield
    except RsalignError:
        raise
    except Exception as failure:
        said = _describe(failure)
        advice = next((told for part, told in _ADVICE.items() if part in said), _USUAL_ADVICE)
        if isinstance(failure, _OF_THE_CODE) and advice is _USUAL_ADVICE:
            advice = _FILES_ADVICE
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
        raise ConfigError(f"vLLM cannot start {model}: {said}. {advice}") from failure


@contextlib.contextmanager
def convert_adapter_errors(path: str) -> Iterator[None]:
    """Converts what vLLM raises while it loads a LoRA adapter.

    Raises:
        ConfigError: if it cannot be loaded into this engine.
    """
    try:
        yield
    except RsalignError:
        raise
    except Exception as failure:
        raise ConfigError(
            f"vLLM cannot load the adapter {path}: {_describe(failure)}. Check that it was trained "
            "for this model, in PEFT's format"
        ) from failure


def _describe(failure: Exception) -> str:
    """The message in one line; with the place where there is none."""
    # of pydantic, whose text has addresses and types of its own
    listed = getattr(failure, "errors", None)
    if callable(listed) and type(failure).__name__ == "ValidationError":
        said = "; ".join(_describe_field(one) for one in listed())
    else:
        said = str(failure)
    said = " ".join(said.split()).rstrip(".")
    if isinstance(failure, (OSError, ValueError)) and said:
        return said
    last = traceback.extract_tb(failure.__traceback__)[-1:]
    place = f" (in {last[0].name})" if last and not said else ""
    return f"{type(failure).__name__}{': ' if said else ''}{said}{place}"


def _describe_field(error: Mapping[str, Any]) -> str:
    said = str(error["msg"]).removeprefix("Value error, ")
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {said}" if place else said
