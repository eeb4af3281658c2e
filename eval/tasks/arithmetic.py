"""The embedded arithmetic task: problems without end, graded exactly; see rsalign.embedded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from eval.tasks.protocol import Grade, Item
from rsalign import Message
from rsalign.core.checks import at_least, check_settings
from rsalign.embedded.problems import Split, extract_answer, problem, problems
from rsalign.selectors.extraction import Extract


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """The number of a last line "Answer: N"; None where the text does not end in one."""

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        number = extract_answer(text)
        return None if number is None else str(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Word-chain problems: success is a last line with the right number.

    ``details["right_lines"]`` of a grade counts the leading lines that are right, out of
    ``details["lines"]``: an answer may be right by luck, and here that can be told.

    Attributes:
        split: ``"heldout"`` for figures one reports, ``"tune"`` for choices, ``"train"``.
        start: index of the first problem.
        limit: number of problems.
        max_tokens: greatest length of an answer; right solutions have at most about 80.

    Raises:
        ConfigError: if there is no such split, or a number is out of range.
    """

    name: ClassVar[str] = "arithmetic"
    stop: ClassVar[tuple[str, ...]] = ()
    split: Split = "heldout"
    start: int = 0
    limit: int = 200
    max_tokens: int = 128

    def __post_init__(self) -> None:
        check_settings(self, start=at_least(0), limit=at_least(1), max_tokens=at_least(1))

    @property
    def extract(self) -> Extract:
        """The number after the last "Answer:"."""
        return AnswerLine()

    def load(self) -> Sequence[Item]:
        """Problems ``start .. start + limit - 1`` of the split."""
        found = problems(self.split, self.limit, start=self.start)
        return [
            Item(
                id=f"{self.split}-{index}",
                messages=(Message("user", made.question),),
                gold={"split": self.split, "index": index, "answer": made.answer},
                group=f"{made.num_changes} changes",
            )
            for index, made in enumerate(found, self.start)
        ]

    def prepare(self) -> None:
        """Nothing is needed."""

    def grade(self, item: Item, text: str) -> Grade:
        """1 if the last line is the right answer, else 0."""
        asked = problem(item.gold["split"], item.gold["index"])
        return Grade(
            score=float(asked.grade(text)),
            answer=AnswerLine()(text),
            details={
                "right_lines": asked.num_right_lines(text),
                "lines": len(asked.equations) + 1,
            },
        )
