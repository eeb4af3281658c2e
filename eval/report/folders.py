"""Run folders, as `eval.sweep` writes them: what they hold and how to repeat it."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from eval.analysis.timing import mark_timed
from eval.records import Record, read_records
from rsalign import ConfigError

RECORDS = "records.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The folder that a run of one configuration wrote.

    Attributes:
        path: as it was given.
        config: what was run, resolved.
        source: the same, as the file has it.
        records: of all items and seeds so far; each says what machine and versions it is of.
    """

    path: Path
    config: Mapping[str, Any]
    source: str
    records: Sequence[Record]


def find_runs(paths: Iterable[Path]) -> list[RunFolder]:
    """Finds all run folders at or below these paths that have records, in order of path.

    Raises:
        ConfigError: if a path does not exist, there are no records, or a file cannot be read.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path} is no folder: give outputs/<experiment>, or a run in it")
        found |= dict.fromkeys(file.parent for file in sorted(path.rglob(RECORDS)))
    runs = [run for run in map(_read, found) if run.records]
    if not runs:
        named = ", ".join(map(str, paths))
        raise ConfigError(
            f"there are no records below {named}: run `python -m eval.run` first, and give the "
            "folder that it wrote to"
        )
    return runs


def _read(folder: Path) -> RunFolder:
    try:
        source = (folder / "config.yaml").read_text(encoding="utf-8")
        config = OmegaConf.to_container(OmegaConf.create(source))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{folder} is not a run folder of eval.run: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{folder / 'config.yaml'} is not a configuration of eval.run")
    return RunFolder(
        path=folder,
        config={str(name): value for name, value in config.items()},
        source=source,
        records=mark_timed(read_records(folder / RECORDS)),
    )


@dataclass(frozen=True, slots=True)
class Host:
    """One set of versions and machine facts.

    Attributes:
        facts: by name.
        num_answers: records that have it.
    """

    facts: Mapping[str, object]
    num_answers: int


def write_commands(runs: Sequence[RunFolder]) -> list[str]:
    """Writes, for each run folder, the command that answers all of it again in another."""
    return [
        f"rsalign sweep --config-path={_absolute(run.path)} --config-name=config "
        "output=outputs/again"
        for run in runs
    ]


def count_hosts(runs: Sequence[RunFolder]) -> list[Host]:
    """Lists the machines and versions that the records name, the most frequent first."""
    found = Counter(tuple(record["host"].items()) for run in runs for record in run.records)
    return [Host(dict(facts), times) for facts, times in found.most_common()]


def _absolute(path: Path) -> str:
    """Quotes a path for a shell. Hydra takes none that is relative to the working folder."""
    quoted = shlex.quote(str(path))
    return quoted if path.is_absolute() else f'"$PWD"/{quoted}'
