"""Parallel workers on one machine: each has its own share of it, so that engines do not fight.

vLLM takes nearly all memory of the first GPU it sees, and binds its threads to the first cores it
may use: two engines that see the same machine take the same GPU and the same cores. The process
that launches says in the environment what there is and for how many; a worker claims a part of it
before anything of vLLM is loaded, and keeps it as long as it lives.
"""

import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TypeVar

from rsalign.core.append_only import take_lock
from rsalign.engines.vllm.environment import is_cpu_build, prepare_environment

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OFFER = "RSALIGN_WORKERS"
_CORES = 2
"""Of a worker without a GPU: one for the policy and one for the reward."""
_held: list[IO[bytes]] = []


def count_workers() -> int:
    """Number of workers for this machine: one a GPU, or one for two cores without GPUs."""
    return len(_gpus()) or max(1, len(_cpus()) // _CORES)


def offer(workers: int) -> None:
    """Announces to child processes the GPUs and cores to be divided among `workers` of them."""
    prepare_environment()  # before joblib and Ray set numbers of threads, which change results
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry unless asked for
    os.environ[_OFFER] = json.dumps({"workers": workers, "gpus": _gpus(), "cpus": _cpus()})


def claim(folder: Path) -> None:
    """Takes a share of the machine that no other worker has; waits until one is free.

    A process claims once, and its share is free again when it ends, however it ends. Where nothing
    is offered, nothing is done: the launcher has no workers here.

    Args:
        folder: where it is noted who has which; the same for all workers of a sweep.
    """
    if _held or _OFFER not in os.environ:
        return
    offered = json.loads(os.environ[_OFFER])
    workers = offered["workers"]
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        # joblib's way to start processes, which those that a job starts would not know
        multiprocessing.set_start_method("spawn", force=True)
    folder.mkdir(parents=True, exist_ok=True)
    worker = _lock(folder, workers)
    gpus, cpus = (take_share(offered[name], worker, workers) for name in ("gpus", "cpus"))
    logger.info("worker %d of %d has GPUs %s and cores %s", worker + 1, workers, gpus, cpus)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)  # of this thread, and of all that it starts


def take_share(things: Sequence[T], worker: int, workers: int) -> Sequence[T]:
    """Returns one worker's part of `things`; with more workers than things, parts are shared.

    >>> [take_share([0, 1, 2, 3, 4], worker, 2) for worker in range(2)]
    [[0, 1], [2, 3, 4]]
    >>> [take_share([0, 1], worker, 3) for worker in range(3)]
    [[0], [1], [0]]
    """
    if len(things) < workers:
        return things[worker % len(things) :][:1] if things else things
    return things[len(things) * worker // workers : len(things) * (worker + 1) // workers]


def _lock(folder: Path, workers: int) -> int:
    """Locks a free share; returns its number."""
    waiting = False
    while True:
        for worker in range(workers):
            file = (folder / f"{worker}-of-{workers}.lock").open("ab")
            if not take_lock(file):
                file.close()
                continue
            _held.append(file)
            return worker
        if not waiting:
            logger.info("all %d shares are taken: waiting for one", workers)
        waiting = True
        time.sleep(0.2)


def _gpus() -> list[str]:
    """Lists the GPUs that vLLM would see, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if is_cpu_build():
        return []
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    ask = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
    return subprocess.run(ask, capture_output=True, text=True, check=False).stdout.split()


def _cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
