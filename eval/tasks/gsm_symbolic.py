"""GSM-Symbolic: GSM8K templates with other names and numbers (Mirzadeh et al. 2024, 2410.05229).

Rows: those of GSM8K with ``id`` of the template and ``instance``. The licence (CC BY-NC-ND 4.0)
allows no copy here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.graders.math_answers import grade_number
from eval.tasks.gsm8k import INSTRUCTION, MOST_SHOTS, STOP, Form, word_problem
from eval.tasks.protocol import Grade, Item, require_distinct_ids
from eval.tasks.rows import column, read_rows
from rsalign.core.checks import at_least, check_settings
from rsalign.selectors.extraction import Extract, FinalNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class GsmSymbolic:
    """Success is the right number; instances of one template are a cluster.

    Attributes:
        path: local file or folder, or Hugging Face id.
        variant: ``"main"``, or with one (``"p1"``) or two (``"p2"``) clauses added; the hub's name
            of the configuration. A local path decides by itself.
        limit: number of problems, from the first on; None is all.
        form: as in `Gsm8k`.
        instruction: as in `Gsm8k`.
        num_shots: as in `Gsm8k`, from GSM8K's training split.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if the form or variant is unknown or a number is out of range.
    """

    name: ClassVar[str] = "gsm_symbolic"
    path: str = "apple/GSM-Symbolic"
    variant: Literal["main", "p1", "p2"] = "main"
    limit: int | None = None
    form: Form = "chat"
    instruction: str = INSTRUCTION
    num_shots: int = 8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        shots = at_least(0, MOST_SHOTS)
        check_settings(self, limit=at_least(1), num_shots=shots, max_tokens=at_least(1))

    @property
    def stop(self) -> tuple[str, ...]:
        """The next question, in the completion form."""
        return STOP[self.form]

    @property
    def extract(self) -> Extract:
        """The final number."""
        return FinalNumber()

    def load(self) -> Sequence[Item]:
        """Problems in the data set's order, with ids "template-instance"."""
        rows = read_rows(self.path, split="test", limit=self.limit, subset=self.variant)
        return require_distinct_ids(
            [
                word_problem(
                    row,
                    id=f"{column(row, 'id')}-{column(row, 'instance')}",
                    form=self.form,
                    instruction=self.instruction,
                    num_shots=self.num_shots,
                    cluster=f"template {column(row, 'id')}",
                )
                for row in rows
            ]
        )

    def prepare(self) -> None:
        """Nothing is needed."""

    def grade(self, item: Item, text: str) -> Grade:
        """1 if the final number has the right value, else 0."""
        return grade_number(text, item.gold)
