"""`python -m eval.run [-m] name=value ...`: one configuration, or a sweep over many."""

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eval import overrides, resolvers, sweep, workers
from rsalign import RsalignError

logger = logging.getLogger(__name__)


@hydra.main(config_path=str(overrides.CONF), config_name="config", version_base="1.3")
def job(config: DictConfig) -> float:
    """One job; its result is the mean score, for sweepers that optimise."""
    resolvers.register()  # this may be a new process
    workers.claim(Path(config.output) / "workers")
    summary = sweep.run(config, HydraConfig.get().job.override_dirname.replace("'", ""))
    score = "none graded" if summary.mean_score is None else f"{summary.mean_score:.3f}"
    logger.info(
        "%s: %d records, %d failed, mean score %s",
        summary.folder,
        summary.num_records,
        summary.num_failed,
        score,
    )
    return float("nan") if summary.mean_score is None else summary.mean_score


def main() -> int:
    """Checks the overrides' names, then hands over to Hydra."""
    try:
        resolvers.register()
        sys.argv[1:] = overrides.quoted(sys.argv[1:])
        config = overrides.check(overrides.given(sys.argv[1:]))
        if "workers" in config:
            workers.offer(config.workers)
        job()
    except RsalignError as error:
        sys.stderr.write(f"eval.run: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
