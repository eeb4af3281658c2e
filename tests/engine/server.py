"""vLLM's own servers for tests: `server.py MODEL [flags of vllm serve] [-- MODEL ...]`.

Prints ``port INDEX NUMBER`` for each, and ends with all of them when its standard input does. The
`vllm` command does not start with the CPU distribution, so its launcher functions are called.
"""

import asyncio
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence

from rsalign.core.tasks import concurrently
from rsalign.engines.vllm.environment import import_vllm

GUARDS = (
    "--host 127.0.0.1 --port 0 --dtype float32 --enforce-eager --block-size 32 "
    f"--kv-cache-memory-bytes {64 << 20} --no-enable-chunked-prefill "
    "--max-num-batched-tokens 16384 --disable-uvicorn-access-log"
)


async def serve(index: int, flags: Sequence[str]) -> None:
    """One server, until it is told to stop."""
    from vllm.entrypoints.launchers.api_server.entry import (
        build_and_serve,
        build_async_engine_client,
    )
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.launchers.launcher import setup_server
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    arguments = parser.parse_args(["--model", *flags, *GUARDS.split()])
    validate_parsed_serve_args(arguments)
    address, listener = setup_server(arguments, reuse_port=False)
    sys.stdout.write(f"port {index} {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    async with build_async_engine_client(arguments) as engine:
        stopped = await build_and_serve(engine, address, listener, arguments)
    await stopped


def end_with_parent() -> None:
    """Kills this group of processes when the parent is gone, or has closed our standard input."""
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Forks, so that all processes share what takes longest: importing vLLM."""
    os.setpgid(0, 0)  # a group of its own
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one child of each server instead of two
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    import_vllm()
    import vllm.entrypoints.launchers.api_server.entry
    import vllm.v1.worker.cpu_worker  # noqa: F401

    split = itertools.groupby(sys.argv[1:], key="--".__eq__)
    for index, flags in enumerate(list(group) for is_split, group in split if not is_split):
        if os.fork() == 0:
            asyncio.run(serve(index, flags))
            return
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.wait()  # none of them should end by itself


class Server:
    """A process that serves models; `addresses` are in the order of the command line."""

    def __init__(self, log, *models):
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__, *" -- ".join(models).split()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
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


if __name__ == "__main__":
    main()
