"""IFEval: requests with instructions that a program can check (Zhou et al. 2023, 2311.07911).

Rows: ``key``, ``prompt``, ``instruction_id_list``, ``kwargs``, as in the authors' repository and at
the hub (where absent arguments are null).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.graders.instructions import check, prepare_checks, uncheckable
from eval.tasks.protocol import Grade, Item, require_distinct_ids, ungradable
from eval.tasks.rows import Row, column, read_rows
from rsalign import Message
from rsalign.core.checks import at_least, check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class IfEval:
    """Success is that all instructions are followed (the paper's prompt-level accuracy).

    ``details`` of a grade has ``"instructions"`` and, for each, whether it is followed, as
    ``"strict"`` and ``"loose"``, for the instruction-level figures.

    Attributes:
        path: local file or folder, Hugging Face id, or ``"bundled"`` for 60 requests.
        split: ``"train"`` is what the hub calls the only one.
        limit: number of requests, from the first on; None is all (541).
        reading: ``"strict"`` takes the text as it is; ``"loose"`` also without its first or last
            line or without asterisks.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if the reading is unknown or a number is out of range.
    """

    name: ClassVar[str] = "ifeval"
    stop: ClassVar[tuple[str, ...]] = ()
    extract: ClassVar[None] = None
    path: str = "google/IFEval"
    split: str = "train"
    limit: int | None = None
    reading: Literal["strict", "loose"] = "strict"
    max_tokens: int = 1280

    def __post_init__(self) -> None:
        check_settings(self, limit=at_least(1), max_tokens=at_least(1))

    def load(self) -> Sequence[Item]:
        """Requests in the data set's order; the group is the first instruction's kind."""
        rows = read_rows(
            self.path, split=self.split, limit=self.limit, bundled="ifeval/input_data.jsonl"
        )
        return require_distinct_ids([_item(row) for row in rows])

    def prepare(self) -> None:
        """Imports the checks."""
        prepare_checks()

    def grade(self, item: Item, text: str) -> Grade:
        """1 if all instructions are followed, else 0; None if one cannot be checked here."""
        instructions, arguments = item.gold["instructions"], item.gold["arguments"]
        if (reason := uncheckable(instructions, arguments)) is not None:
            return ungradable(reason)
        followed = check(text, instructions, arguments)
        return Grade(
            score=float(all(followed.strict if self.reading == "strict" else followed.loose)),
            details={
                "instructions": instructions,
                "strict": followed.strict,
                "loose": followed.loose,
            },
        )

    def credit(self, item: Item, text: str) -> float | None:
        """The share of the instructions that are followed, 0 to 1; None if one cannot be checked.

        It orders answers of which none follows all, as a reward must (`eval.graders.task_reward`).
        """
        grade = self.grade(item, text)
        if grade.score is None:
            return None
        followed = grade.details[self.reading]
        assert isinstance(followed, tuple)
        return sum(followed) / len(followed)


def _item(row: Row) -> Item:
    instructions = [str(name) for name in column(row, "instruction_id_list")]
    arguments = [
        {name: value for name, value in given.items() if value is not None}
        for given in column(row, "kwargs")
    ]
    return Item(
        id=str(column(row, "key")),
        messages=(Message("user", str(column(row, "prompt"))),),
        gold={"instructions": instructions, "arguments": arguments},
        group=instructions[0].split(":")[0],
    )
