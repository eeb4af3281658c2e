"""`python -m eval.run [-m] name=value ...`: one configuration, or a sweep over many."""

import logging
import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from eval import overrides, resolvers, sweep
from rsalign import RsalignError

logger = logging.getLogger(__name__)


@hydra.main(config_path=str(overrides.CONF), config_name="config", version_base="1.3")
def job(config: DictConfig) -> float:
    """One job; its result is the mean score, for sweepers that optimise."""
    return told(sweep.run(config))


def told(summary: sweep.Summary) -> float:
    """Says what came of a job; its mean score, or NaN."""
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
        sys.argv[1:] = overrides.quoted(sys.argv[1:])
        overrides.check(
            [one for one in sys.argv[1:] if "=" in one and not one.startswith("-")], config_name
        )
        run()
    except RsalignError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
