"""`python -m eval.run [-m] name=value ...`: one configuration, or a sweep over many."""

import logging
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eval import overrides, resolvers, sweep
from rsalign import RsalignError

logger = logging.getLogger(__name__)


@hydra.main(config_path=str(overrides.CONF), config_name="config", version_base="1.3")
def job(config: DictConfig) -> float:
    """One job; its result is the mean score, for sweepers that optimise."""
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
        overrides.check([one for one in sys.argv[1:] if "=" in one and not one.startswith("-")])
        job()
    except RsalignError as error:
        sys.stderr.write(f"eval.run: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
