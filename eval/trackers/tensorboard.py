"""TensorBoard: an event file for each job, with its settings for the HParams page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.optional import require


@dataclass(frozen=True, slots=True)
class TensorBoardTracker:
    """Event files below one folder: ``tensorboard --logdir <folder>``.

    Args:
        folder: made if it is not there.

    Raises:
        InstallError: if tensorboardX is missing.
    """

    folder: str

    def __post_init__(self) -> None:
        self._library()

    def job(
        self, key: str, name: str, config: Mapping[str, str], figures: Mapping[str, float]
    ) -> None:
        """A folder with a scalar for each figure."""
        library = self._library()
        readable = re.sub(r"[^\w=,.-]+", "_", name)[:100]
        folder = Path(self.folder) / f"{readable}-{key}"
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        with library.SummaryWriter(str(folder)) as writer:
            for part in library.summary.hparams(dict(config), dict(figures)):
                writer.file_writer.add_summary(part)
            for figure, number in figures.items():
                writer.add_scalar(figure, number, 0)

    @staticmethod
    def _library() -> Any:
        return require("tensorboardX", "tracker=tensorboard")
