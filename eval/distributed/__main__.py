"""`python -m eval.distributed [-m] name=value ... workers=N`: `eval.run` on a Ray cluster."""

import sys

import hydra
from omegaconf import DictConfig

from eval import overrides, run
from eval.distributed.spread import of_one_machine, spread_of


@hydra.main(config_path=str(overrides.CONF), config_name="distributed", version_base="1.3")
def job(config: DictConfig) -> float:
    """Runs one job; returns the mean score, for sweepers that optimise it."""
    return run.run_job(of_one_machine(config), spread_of(config).answer)


def main(*, program: str = "eval.distributed") -> int:
    """Answers on a cluster; see `eval.run.main`."""
    return run.main(job, program=program, config_name="distributed")


if __name__ == "__main__":
    sys.exit(main())
