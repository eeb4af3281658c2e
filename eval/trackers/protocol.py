"""The interface of trackers, and the one that shows nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Tracker(Protocol):
    """Shows the figures of finished jobs somewhere. The records hold all of them, and more."""

    def job(
        self, key: str, name: str, config: Mapping[str, str], figures: Mapping[str, float]
    ) -> None:
        """Shows one job.

        Args:
            key: hash of its configuration. A job that is run again replaces what is shown of it.
            name: for people.
            config: its settings by their path, such as ``strategy.n``.
            figures: see `eval.trackers.figures`.
        """


@dataclass(frozen=True, slots=True)
class NoTracker:
    """Shows nothing: the records are all there is."""

    def job(
        self, key: str, name: str, config: Mapping[str, str], figures: Mapping[str, float]
    ) -> None:
        """Does nothing."""
