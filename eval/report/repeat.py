"""How to repeat what a page shows: commands, configurations and versions."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.report.folders import RunFolder


@dataclass(frozen=True, slots=True)
class Host:
    """One set of versions and machine facts.

    Attributes:
        facts: by name.
        num_answers: records that have it.
    """

    facts: Mapping[str, object]
    num_answers: int


def commands(runs: Sequence[RunFolder]) -> list[str]:
    """A command for each run folder that answers all of it again, elsewhere."""
    return [
        f"python -m eval.run --config-path={_absolute(run.path)} --config-name=config "
        "output=outputs/again"
        for run in runs
    ]


def hosts(runs: Sequence[RunFolder]) -> list[Host]:
    """Each once, the most frequent first."""
    found = Counter(tuple(record["host"].items()) for run in runs for record in run.records)
    return [Host(dict(facts), times) for facts, times in found.most_common()]


def _absolute(path: Path) -> str:
    """Hydra takes no path relative to the working folder."""
    quoted = shlex.quote(str(path))
    return quoted if path.is_absolute() else f'"$PWD"/{quoted}'
