"""No tracker: the records are all there is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NoTracker:
    """Shows nothing."""

    def job(
        self, key: str, name: str, config: Mapping[str, str], figures: Mapping[str, float]
    ) -> None:
        """Forgets it."""
