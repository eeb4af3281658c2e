"""Functions that YAML files may call: ``${steps:...}``, ``${pool:...}``, ``${workers:}`` and more.

``${width:...}`` and ``${branch:...}`` are the shape of a search, ``${twice:...}`` doubles,
``${at_most:...}`` is the least of several numbers.

``${real_model:...}`` is the path of a model that ``make real`` makes.
"""

import math
import warnings

from omegaconf import OmegaConf

from eval import workers
from eval.real.cache import find_model

# Our launcher presets are checked against the plugins' own settings, which is what we want; Hydra
# 1.3 says at each start that one day it will not. Here, because workers that compose import this.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")


def steps(answers: int) -> int:
    """Steps of a chain that costs as many tokens as `answers` answers: half an answer a step."""
    return max(1, 2 * (answers - (pool(answers) or 1)))


def gibbs_steps(answers: int) -> int:
    """The same for a chain whose steps draw 9/8 answers (``strategy=particle_gibbs``)."""
    return max(1, round(8 / 9 * (answers - (pool(answers) or 1))))


def pool(answers: int) -> int | None:
    """Size of a chain's pool: a quarter of the answers; None below 8 answers."""
    return answers // 4 if answers >= 8 else None


def branch(answers: int) -> int:
    """Drafts of each prefix in a search that costs as much as `answers` answers: 4 at most."""
    return min(4, math.isqrt(answers))


def width(answers: int) -> int:
    """Prefixes that go on in such a search."""
    return answers // branch(answers)


def register() -> None:
    """Registers these functions with OmegaConf. Idempotent."""
    OmegaConf.register_new_resolver("steps", steps, replace=True)
    OmegaConf.register_new_resolver("gibbs_steps", gibbs_steps, replace=True)
    OmegaConf.register_new_resolver("pool", pool, replace=True)
    OmegaConf.register_new_resolver("branch", branch, replace=True)
    OmegaConf.register_new_resolver("width", width, replace=True)
    OmegaConf.register_new_resolver("at_most", min, replace=True)
    OmegaConf.register_new_resolver("twice", lambda number: 2 * number, replace=True)
    OmegaConf.register_new_resolver("real_model", find_model, replace=True)
    OmegaConf.register_new_resolver("workers", workers.count_workers, replace=True)
