"""What `rsalign doctor` found: one line of its report each."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        level: ``"ok"``, ``"note"`` (works, with a limitation) or ``"fail"`` (will not work).
        text: what was found and, for a failure, how to repair it.

    Example:
        >>> Finding("ok", "Python 3.11").level
        'ok'
    """

    level: Literal["ok", "note", "fail"]
    text: str
