"""Words that configurations may use: sizes of a chain, and what this machine has room for."""

import warnings

from omegaconf import OmegaConf

from eval import workers

# Our launcher presets are checked against the plugins' own settings, which is what we want; Hydra
# 1.3 says at each start that one day it will not. Here, because workers that compose import this.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")


def steps(answers: int) -> int:
    """Steps that cost, with the pool, as many tokens as so many answers: half an answer each."""
    return max(1, 2 * (answers - (pool(answers) or 1)))


def pool(answers: int) -> int | None:
    """A quarter of the answers, if that is a pool."""
    return answers // 4 if answers >= 8 else None


def register() -> None:
    """Makes ``${steps:...}``, ``${pool:...}`` and ``${workers:}`` known. Idempotent."""
    OmegaConf.register_new_resolver("steps", steps, replace=True)
    OmegaConf.register_new_resolver("pool", pool, replace=True)
    OmegaConf.register_new_resolver("workers", workers.count_workers, replace=True)
