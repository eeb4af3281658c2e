"""`python -m eval.export RUN_FOLDER... --format FORMAT -o FILE`."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.export.formats import FORMATS, Choice, Row
from eval.records import Record, replace_file
from eval.report.folders import find_runs
from rsalign import ConfigError, RsalignError

_CONTENT = ("prompt", "samples", "chosen", "rejected", "completion")
"""What makes a row another one than those before; the rest says where it comes from."""

_EPILOG = """\
groups         one row for each prompt and seed: everything that was considered, with rewards,
               accept flags, token ids and log-probabilities
pairs          prompt, chosen, rejected, score_chosen, score_rejected: the best answer and the worst
segment_pairs  the same for what was accepted and rejected on one prefix
sft            prompt, completion: accepted answers only
"""


def main(arguments: Sequence[str] | None = None, *, program: str = "eval.export") -> int:
    """Writes JSON lines; 2 if it cannot."""
    given = _parser(program).parse_args(arguments)
    choice = Choice(min_gap=given.min_gap, every_pair=given.every_pair, min_score=given.min_score)
    try:
        written = export(given.folders, given.format, given.output, choice)
    except RsalignError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    print(f"{given.output}: {written} rows")
    return 0


def export(folders: Sequence[Path], name: str, output: Path, choice: Choice) -> int:
    """Writes the rows of all records of some runs; returns how many there are.

    Equal rows of several runs, which share their draws, are written once.

    Raises:
        ConfigError: if there is nothing to write, or something cannot be read or written.
    """
    records = [one for run in find_runs(folders) for one in run.records if one["error"] is None]
    count = 0
    try:
        with replace_file(output) as partial:
            with partial.open("w", encoding="utf-8") as file:
                for row in _once(_rows(records, name, choice)):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            if not count:
                raise ConfigError(
                    f"no record has anything for --format {name}: a pair needs two different texts "
                    "whose rewards differ by more than --min-gap, an sft row a score of --min-score"
                )
    except OSError as error:
        raise ConfigError(f"cannot write to {output}: {error}") from error
    return count


def _rows(records: Iterable[Record], name: str, choice: Choice) -> Iterator[Row]:
    layouts: dict[type, str] = {}
    for record in records:
        for row in FORMATS[name](record, choice):
            layouts.setdefault(type(row["prompt"]), record["task"])
            if len(layouts) > 1:
                raise ConfigError(
                    f"tasks {' and '.join(layouts.values())} have prompts of two kinds, "
                    "conversations and plain text, which no data set holds together: export them "
                    "one by one"
                )
            yield row


def _once(rows: Iterable[Row]) -> Iterator[Row]:
    seen: set[bytes] = set()
    for row in rows:
        content = json.dumps([row.get(name) for name in _CONTENT])
        digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
        if digest not in seen:
            yield row
        seen.add(digest)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Training data from records that were written with tokens=true.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("folders", nargs="+", type=Path, help="run folders, or folders that hold some")
    add("--format", required=True, choices=sorted(FORMATS), help="see below")
    add("--output", "-o", required=True, type=Path, metavar="FILE", help="JSON lines")
    add("--min-gap", type=float, default=0.0, help="of rewards, which a pair must exceed")
    add("--every-pair", action="store_true", help="not only the best and the worst")
    add("--min-score", type=float, help="of the grader, which an sft row must reach")
    return parser


if __name__ == "__main__":
    sys.exit(main())
