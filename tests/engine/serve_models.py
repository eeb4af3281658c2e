"""A program that serves models by vLLM's own servers: `MODEL [flags of vllm serve] [-- MODEL ...]`.

Prints ``port INDEX NUMBER`` for each, and ends with all of them when its standard input does. The
`vllm` command does not start with the CPU distribution, so its launcher functions are called.
"""

import asyncio
import itertools
import os
import signal
import sys
import threading
from collections.abc import Sequence

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


if __name__ == "__main__":
    main()
