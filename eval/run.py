"""`python -m eval.run [-m] name=value ...`: one configuration, or a sweep over many."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eval import overrides, resolvers, sweep, workers
from eval.configuration import resolve
from eval.failures import FailureLog, note_failure
from eval.job import Answer
from eval.progress import end_job, start_sweep
from rsalign import RsalignError

logger = logging.getLogger(__name__)


@hydra.main(config_path=str(overrides.CONF), config_name="config", version_base="1.3")
def job(config: DictConfig) -> float:
    """Runs one job; returns the mean score, for sweepers that optimise it."""
    workers.claim(Path(config.output) / "workers")
    return run_job(config)


def run_job(config: DictConfig, answer: Answer | None = None) -> float:
    """Runs a job, logs its result and returns its mean score.

    A job that cannot work does not end the sweep: its error is one line (`eval.failures`).

    Args:
        config: of the job.
        answer: answers what is missing; by default in this process.

    Returns:
        NaN if nothing was graded, or the job failed.
    """
    resolvers.register()  # this may be a new process
    name = HydraConfig.get().job.override_dirname.replace("'", "")
    output = Path(config.output)
    started, num_drawn = time.time(), 0
    try:
        summary = sweep.run(config, name, answer)
        num_drawn = summary.num_drawn
    except RsalignError as error:
        logger.error("%s: %s", name or "the job", error)
        note_failure(output, name, str(error))
        return float("nan")
    finally:
        progress = end_job(output, started, had_answers_to_draw=num_drawn > 0)
    if summary.first_failure:
        told = f"{summary.num_failed} of {summary.num_records} answers failed, the first: "
        note_failure(output, name, told + summary.first_failure)
    score = "none graded" if summary.mean_score is None else f"{summary.mean_score:.3f}"
    logger.info(
        "%s: %d records, %d failed, mean score %s",
        summary.folder,
        summary.num_records,
        summary.num_failed,
        score,
    )
    if progress is not None:
        logger.info("%s", progress.describe())
    return float("nan") if summary.mean_score is None else summary.mean_score


def main(
    run: Callable[[], object] = job, *, program: str = "eval.run", config_name: str = "config"
) -> int:
    """Checks the overrides' names, then hands over to Hydra.

    Args:
        run: decorated by `hydra.main`.
        program: what it is called in messages.
        config_name: the file of ``conf/`` that it is configured by.

    Returns:
        The exit status: 1 if a job or an answer failed, 2 if the command line is wrong, 130 if it
        was interrupted.
    """
    try:
        resolvers.register()
        sys.argv[1:] = overrides.quote_numbers(sys.argv[1:])
        given = overrides.read_overrides(sys.argv[1:])
        config = overrides.check_overrides(given, config_name)
        for part in ("policy", "reward"):  # what is missing on this machine
            resolve(config[part], part)
        if "workers" in config and "spread" not in config:  # a launcher's, on this machine
            workers.offer(config.workers)
        failures = FailureLog(Path(config.output))
        start_sweep(Path(config.output), overrides.count_jobs(given, config_name))
        run()
    except RsalignError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: stopped; the same command goes on where it stopped\n")
        return 130
    failed = failures.read()
    for line in failed:
        sys.stderr.write(f"{program}: failed: {line}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
