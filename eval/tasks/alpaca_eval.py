"""AlpacaEval: open requests, judged by the tool of that name (Dubois et al. 2024, 2404.04475).

Rows: ``instruction``, ``output`` (a reference), ``generator``, ``dataset``. The licence (CC BY-NC
4.0) allows no copy here. A sweep that has answered all writes them for the tool, for each seed:

    alpaca_eval --model_outputs outputs/default/<configuration>/model_outputs-<strategy>-0.json
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.protocol import Grade, Item, require_distinct_ids, ungradable
from eval.tasks.rows import column, read_rows
from rsalign import ConfigError, Message
from rsalign.core.checks import at_least, check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaEval:
    """Requests without gold answers: `grade` never tells; see `write_model_outputs`.

    `eval.graders.reward.BeatsReference` compares with the rows' own ``output`` by any reward.

    Attributes:
        path: local file or folder, or Hugging Face id.
        limit: number of requests, from the first on; None is all (805).
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "alpaca_eval"
    stop: ClassVar[tuple[str, ...]] = ()
    extract: ClassVar[None] = None
    path: str = "tatsu-lab/alpaca_eval"
    limit: int | None = None
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        check_settings(self, limit=at_least(1), max_tokens=at_least(1))

    def load(self) -> Sequence[Item]:
        """Requests in the data set's order; the group is where each came from."""
        rows = read_rows(self.path, split="eval", limit=self.limit, hub_file="alpaca_eval.json")
        return require_distinct_ids(
            [
                Item(
                    id=str(index),
                    messages=(Message("user", str(column(row, "instruction"))),),
                    gold={"reference": row.get("output")},
                    group=str(row.get("dataset", "")),
                )
                for index, row in enumerate(rows)
            ]
        )

    def prepare(self) -> None:
        """Nothing is needed."""

    def grade(self, item: Item, text: str) -> Grade:
        """None: nobody can tell without a judge."""
        return ungradable("AlpacaEval is graded by its own tool, from model_outputs")

    def write(self, answers: Sequence[tuple[Item, str]], folder: Path, *, name: str) -> Path:
        """As ``model_outputs-<name>.json`` (`write_model_outputs`)."""
        file = folder / f"model_outputs-{name}.json"
        write_model_outputs(answers, file, generator=name)
        return file


def write_model_outputs(
    answers: Iterable[tuple[Item, str]], file: str | Path, *, generator: str
) -> None:
    """Writes answers as the tool ``alpaca_eval`` reads them.

    Args:
        answers: items with what was written, one answer an item.
        file: where to; overwritten.
        generator: the name under which the leaderboard shows them.

    Raises:
        ConfigError: if an item has two answers, or there are none.
    """
    listed = list(answers)
    if not listed:
        raise ConfigError("there are no answers to write")
    require_distinct_ids([item for item, _ in listed])
    rows = [
        {
            "instruction": item.messages[-1].content,
            "output": text,
            "generator": generator,
            "dataset": item.group,
            "datasplit": "eval",
        }
        for item, text in listed
    ]
    text = json.dumps(rows, ensure_ascii=False, indent=2)
    Path(file).write_text(f"{text}\n", encoding="utf-8")
