"""A process that serves models to tests, and what stands between them and it."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import forked

from rsalign.core.tasks import concurrently

PROGRAM = Path(__file__).with_name("serve_models.py")


def hook(name):
    """Import path of a hook for the model runner that engines have in this environment."""
    runner = "v2" if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1" else "v1"
    return f"rsalign.hooks.{runner}:{name}"


class Server:
    """A process that serves models; `addresses` are in the order of the command line."""

    def __init__(self, log, *models):
        self._log = log
        self._process = forked.Popen(
            [sys.executable, str(PROGRAM), *" -- ".join(models).split()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            env=os.environ | {"VLLM_WORKER_MULTIPROC_METHOD": "fork"},
            text=True,
        )
        self._count = len(models)

    def addresses(self):
        ports = {}
        for line in self._process.stdout:
            if match := re.fullmatch(r"port (\d) (\d+)\n", line):
                ports[int(match[1])] = int(match[2])
            if len(ports) == self._count:
                break
        found = [f"http://127.0.0.1:{ports[index]}" for index in sorted(ports)]
        deadline = time.monotonic() + 200
        for address in found:
            while not self._healthy(address):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)
        return found

    def stop(self):
        self._process.stdin.close()  # upon which it kills its group, engines included
        self._process.stdout.close()
        assert self._process.wait(timeout=20) == -signal.SIGKILL

    @staticmethod
    def _healthy(address):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{address}/health", timeout=5).status == 200
        return False


@contextlib.asynccontextmanager
async def front(address, answer=None):
    """A server before a server: counts requests, and passes them on, unless `answer` does.

    `answer` gets the number of a request and what can be written to; it returns whether it is
    done with the connection.
    """
    seen = []

    async def connected(reader, writer):
        there, back = await asyncio.open_connection(*address.removeprefix("http://").split(":"))

        async def forth():
            while data := await reader.read(1 << 16):
                if data.startswith((b"POST", b"GET")):
                    seen.append(data)
                    if answer is not None and await answer(len(seen), writer):
                        break
                back.write(data)
            back.close()

        async def return_():
            while data := await there.read(1 << 16):
                writer.write(data)
            writer.close()

        with contextlib.suppress(ConnectionError):
            await concurrently([forth(), return_()])

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
