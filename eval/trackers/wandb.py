"""Weights & Biases: a run for each job, kept on disk until someone sends it with `wandb sync`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.optional import require


@dataclass(frozen=True, slots=True)
class WandbTracker:
    """Runs of one project.

    Args:
        project: its name.
        folder: gets a folder ``wandb``.
        mode: ``offline`` writes to disk only; ``online`` needs an account.

    Raises:
        InstallError: if wandb is missing.
    """

    project: str
    folder: str
    mode: str = "offline"

    def __post_init__(self) -> None:
        self._wandb()

    def job(
        self, key: str, name: str, config: Mapping[str, str], figures: Mapping[str, float]
    ) -> None:
        """A run with the figures as its summary; runs of one key become one when they are sent."""
        wandb = self._wandb()
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project,
            dir=self.folder,
            mode=self.mode,
            id=key,
            name=name,
            config=dict(config),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                # what a job was run with is in its records, without the owner and the paths
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        run.log(dict(figures))
        run.finish()

    @staticmethod
    def _wandb() -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        return require("wandb", "tracker=wandb")
