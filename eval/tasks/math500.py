r"""MATH-500: competition problems with an exact answer (Lightman et al. 2023, arXiv:2305.20050).

They are 500 of the test problems of MATH (Hendrycks et al. 2021, arXiv:2103.03874).

Rows: ``problem``, ``answer`` (LaTeX), ``subject``, ``level``, ``unique_id``. Other rows with
``problem`` or ``question`` and ``answer`` can be read too, and get their number as id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from eval.graders.math_answers import FinalExpression, grade_math, prepare_math
from eval.tasks.protocol import Grade, Item, require_distinct_ids
from eval.tasks.rows import Row, column, read_rows
from rsalign import Message
from rsalign.core.checks import at_least, check_settings
from rsalign.selectors.extraction import Extract


@dataclass(frozen=True, slots=True, kw_only=True)
class Math500:
    r"""Success is the right value; see `eval.graders.math_answers`.

    An answer that is not boxed is graded and has a vote all the same.

    Attributes:
        path: local file or folder, Hugging Face id, or ``"bundled"`` for the first 30 problems.
        split: ``"test"`` is all there is.
        limit: number of problems, from the first on; None is all.
        instruction: follows the problem; may be empty.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "math500"
    stop: ClassVar[tuple[str, ...]] = ()
    path: str = "HuggingFaceH4/MATH-500"
    split: str = "test"
    limit: int | None = None
    instruction: str = r"Reason step by step, and put your final answer within \boxed{}."
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        check_settings(self, limit=at_least(1), max_tokens=at_least(1))

    @property
    def extract(self) -> Extract:
        """The final expression, in one spelling of its value."""
        return FinalExpression()

    def load(self) -> Sequence[Item]:
        """Problems in the data set's order; the group is subject and level."""
        rows = read_rows(
            self.path, split=self.split, limit=self.limit, bundled="math500/test.jsonl"
        )
        return require_distinct_ids([self._item(row, index) for index, row in enumerate(rows)])

    def _item(self, row: Row, index: int) -> Item:
        problem = str(column(row, "problem", "question"))
        asked = f"{problem}\n\n{self.instruction}" if self.instruction else problem
        level = f" {row['level']}" if "level" in row else ""
        return Item(
            id=str(row.get("unique_id", f"{self.split}-{index}")),
            messages=(Message("user", asked),),
            gold=str(column(row, "answer")),
            group=f"{row.get('subject', '')}{level}".strip(),
        )

    def prepare(self) -> None:
        """Imports math-verify."""
        prepare_math()

    def grade(self, item: Item, text: str) -> Grade:
        """1 if the answer has the right value, else 0."""
        return grade_math(text, item.gold)
