"""How a job is spread: its items are a data set, and a pool of actors maps batches to records.

The driver alone writes records, each as soon as its batch comes back, so that files, resuming and
reports are those of `eval.run`. What a worker died of is tried again in a worker that has nothing
else to lose, and what fails there, too, is recorded as failed.
"""

import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from eval.configuration import build, resolve
from eval.distributed.worker import Actor, AlignerWorker, failed_output
from eval.job import SweepJob
from eval.optional import require
from eval.records import Record
from eval.tasks.protocol import Item
from rsalign import ConfigError, PolicyError
from rsalign.core.capabilities import answers_together
from rsalign.core.checks import at_least, check_settings
from rsalign.engines.vllm.environment import prepare_environment

_OURS = ("workers", "spread")
"""What ``conf/distributed.yaml`` adds to ``conf/config.yaml``."""
_MORE_TRIES = 1
"""For a batch whose worker died, before its items are tried alone, and again there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A pool of workers.

    Attributes:
        workers: how many aligners, each with engines of its own.
        batch_size: items that travel together.
        batches_at_once: batches that are open in one worker.
        cpus_per_worker: what a worker reserves of its machine.
        gpus_per_worker: likewise; those that it sees.
        init: arguments of `ray.init`; None leaves one out.
        worker: what runs in each actor; called as `AlignerWorker`.

    Raises:
        ConfigError: if a number is out of range.
    """

    workers: int = 1
    batch_size: int = 4
    batches_at_once: int = 16
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    init: Mapping[str, Any] = field(default_factory=dict)
    worker: type = AlignerWorker

    def __post_init__(self) -> None:
        check_settings(
            self,
            workers=at_least(1),
            batch_size=at_least(1),
            batches_at_once=at_least(1),
            cpus_per_worker=at_least(0.0),
            gpus_per_worker=at_least(0.0),
        )

    def answer(
        self,
        config: DictConfig,
        job: SweepJob,
        missing: Sequence[tuple[Item, int]],
        keep: Callable[[Record], None],
    ) -> None:
        """Answers items on the cluster (an `eval.job.Answer`).

        Raises:
            ConfigError: if the strategy shares draws among items.
            InstallError: if Ray is missing.
            PolicyError: if a worker could not be started, or Ray itself failed.
        """
        # refuses what is not drawn, or not item by item, before a cluster is started
        if answers_together(job.drawing_strategy):
            raise ConfigError(
                f"strategy {type(job.strategy).__name__} shares its draws among all items, which "
                "workers cannot: run it with eval.run, or choose another strategy"
            )
        self.start()
        output = Path(config.output).absolute()  # workers have working folders of their own
        journals = output if job.shares_journal else output / job.digest
        arguments = (resolve(config), str(journals))
        waiting = {(item.id, seed): item for item, seed in missing}
        for pool in (self, replace(self, batch_size=1, batches_at_once=1)):
            for record in pool.records(arguments, dict(waiting)):
                keep(record)
                waiting.pop((record["item"], record["seed"]), None)
        error = PolicyError(
            "all workers that were given it ended before it did: the log of Ray says what of"
        )
        for (_, seed), item in waiting.items():
            keep(job.record(failed_output(item, seed, error, job.drawing_strategy), item, None))

    def start(self) -> None:
        """Connects to a cluster, or starts one on this machine. Idempotent."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry unless asked for
        ray = require("ray", "workers")
        if ray.is_initialized():
            return
        ray.init(
            **{name: value for name, value in self.init.items() if value is not None},
            runtime_env={
                "py_modules": [str(Path(__file__).parents[1])],  # eval is not an installed package
                # Ray sets OMP_NUM_THREADS by the CPUs of a worker, and a sum of floats in another
                # order would be another sum
                "env_vars": prepare_environment(),
            },
        )

    def records(
        self, arguments: tuple[Any, ...], waiting: Mapping[tuple[str, int], Item]
    ) -> Iterator[Record]:
        """The records of items in order of completion; without those whose workers died.

        Args:
            arguments: of each worker.
            waiting: what is to be answered, by its id and seed.

        Raises:
            PolicyError: if a worker could not be started, or Ray itself failed.
        """
        if not waiting:
            return
        data = require("ray.data", "workers")
        context = data.DataContext.get_current()
        context.enable_progress_bars = sys.stderr.isatty()
        context.max_errored_blocks = -1  # a batch that is lost ends nothing
        context.target_max_block_size = 1 << 20  # what Ray reserves for each batch at first
        rows = [{"item": pickle.dumps(item), "seed": seed} for (_, seed), item in waiting.items()]
        blocks = -(-len(rows) // self.batch_size)
        with warnings.catch_warnings():
            # Ray 2.60 to 2.63 deprecate the only way to bound the tries of a batch
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            mapped = data.from_items(rows, override_num_blocks=blocks).map_batches(
                Actor,
                fn_constructor_args=(self.worker, arguments),
                batch_size=self.batch_size,
                compute=data.ActorPoolStrategy(
                    size=min(self.workers, blocks),
                    max_concurrent_calls_per_actor=self.batches_at_once,
                    max_tasks_in_flight_per_actor=self.batches_at_once,
                    enable_true_multi_threading=True,
                ),
                num_cpus=self.cpus_per_worker,
                num_gpus=self.gpus_per_worker,
                max_restarts=-1,
                max_task_retries=_MORE_TRIES,
            )
        try:
            for batch in mapped.iter_batches(batch_size=None):
                for text in batch["record"]:
                    yield json.loads(text)
        except require("ray.exceptions", "workers").RayError as error:
            *_, last = str(error).strip().splitlines()  # the rest is a traceback through Ray
            raise PolicyError(
                f"Ray gave up: {last}. What is recorded stays, and the same command goes on"
            ) from None


def spread_of(config: DictConfig) -> Spread:
    """Builds the `Spread` of a configuration of ``conf/distributed.yaml``."""
    spread: Spread = build(config.spread, "spread")
    return spread


def of_one_machine(config: DictConfig) -> DictConfig:
    """Removes what only `eval.distributed` reads, so that hash and records are as of `eval.run`."""
    return OmegaConf.masked_copy(config, [str(name) for name in config if name not in _OURS])
