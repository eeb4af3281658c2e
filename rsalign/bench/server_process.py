"""Server processes that a benchmark starts and ends."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rsalign.core.errors import PolicyError
from rsalign.engines.vllm.building import engine_arguments
from rsalign.engines.vllm.environment import is_cpu_build

_START_SECONDS = 600
_OURS = {"model", "use_tqdm_on_load", "disable_log_stats", "logprobs_mode", "runner"}


def stock_command(model: str, *, pooling: bool = False) -> list[str]:
    """The command of vLLM's own server, with the settings that rsalign's engines have.

    The launcher of vLLM itself; its `vllm` command does not start with the CPU distribution.
    """
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"]
    flags = ["--model", model]
    if pooling:
        flags += ["--runner", "pooling"]
    if is_cpu_build():
        for name, value in engine_arguments(model, {}, pooling=pooling).items():
            flag = name.replace("_", "-")
            if name in _OURS:
                continue
            if isinstance(value, bool):
                flags.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                flags += [f"--{flag}", str(value)]
    return command + flags


class ServerProcess(contextlib.AbstractContextManager["ServerProcess"]):
    """A server process on loopback, which serves its model as ``policy``.

    Args:
        command: without address and name of the model.
        log: where it writes.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._log = log
        self._command = [
            *(*command, "--host", "127.0.0.1", "--port", str(port)),
            *("--served-model-name", "policy", "--disable-uvicorn-access-log"),
        ]
        self._out: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ServerProcess":
        self._out = self._log.open("w")
        environment = os.environ | {"RSALIGN_LOGGING_LEVEL": "WARNING"}
        if is_cpu_build():
            environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self._process = subprocess.Popen(
            self._command, stdout=self._out, stderr=subprocess.STDOUT, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._out is not None
        self._process.terminate()
        self._process.wait()
        self._out.close()

    def wait(self) -> None:
        """Until it answers."""
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PolicyError(
                    f"the server {' '.join(self._command)} does not start: "
                    f"{self._log.read_text()[-2000:]}"
                )
            time.sleep(0.2)

    def processor_seconds(self) -> float:
        """Of all its processes so far."""
        import psutil

        assert self._process is not None
        server = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))
