"""`python -m eval.run [-m] name=value ...`: one configuration, or a sweep over many."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eval import overrides, resolvers, sweep, workers
from eval.configuration import resolve
from eval.job import Answer
from rsalign import RsalignError

logger = logging.getLogger(__name__)


@hydra.main(config_path=str(overrides.CONF), config_name="config", version_base="1.3")
def job(config: DictConfig) -> float:
    """Runs one job; returns the mean score, for sweepers that optimise it."""
    workers.claim(Path(config.output) / "workers")
    return run_job(config)


def run_job(config: DictConfig, answer: Answer | None = None) -> float:
    """Runs a job, logs its result and returns its mean score, or NaN if nothing was graded.

    Args:
        config: of the job.
        answer: answers what is missing; by default in this process.
    """
    resolvers.register()  # this may be a new process
    name = HydraConfig.get().job.override_dirname.replace("'", "")
    summary = sweep.run(config, name, answer)
    score = "none graded" if summary.mean_score is None else f"{summary.mean_score:.3f}"
    logger.info(
        "%s: %d records, %d failed, mean score %s",
        summary.folder,
        summary.num_records,
        summary.num_failed,
        score,
    )
    return float("nan") if summary.mean_score is None else summary.mean_score


def main(
    run: Callable[[], object] = job, *, program: str = "eval.run", config_name: str = "config"
) -> int:
    """Checks the overrides' names, then hands over to Hydra.

    Args:
        run: decorated by `hydra.main`.
        program: what it is called in messages.
        config_name: the file of ``conf/`` that it is configured by.
    """
    try:
        resolvers.register()
        sys.argv[1:] = overrides.quote_numbers(sys.argv[1:])
        config = overrides.check_overrides(overrides.read_overrides(sys.argv[1:]), config_name)
        for part in ("policy", "reward"):  # what is missing on this machine
            resolve(config[part], part)
        if "workers" in config and "spread" not in config:  # a launcher's, on this machine
            workers.offer(config.workers)
        run()
    except RsalignError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
