r"""GSM8K: grade-school word problems with a number as answer (Cobbe et al. 2021, arXiv:2110.14168).

Rows: ``question``, ``answer`` (a solution that ends in "#### N"), as in the authors' repository and
at the hub.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, TypeAlias

from eval.graders.math_answers import grade_number
from eval.tasks.protocol import Grade, Item, require_distinct_ids
from eval.tasks.rows import BUNDLED, Row, column, read_rows, require_bundled
from rsalign import ConfigError, Message
from rsalign.core.checks import at_least, check_settings
from rsalign.selectors.extraction import Extract, FinalNumber
from rsalign.selectors.numbers import read_number, spell

Form: TypeAlias = Literal["chat", "completion"]

INSTRUCTION = "Reason step by step, and end with a line of the form '#### N', N being the answer."

MOST_SHOTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsm8k:
    """Success is the right number, by value; see `rsalign.selectors.extraction.FinalNumber`.

    Attributes:
        path: local file or folder, Hugging Face id, or ``"bundled"`` for 40 test problems.
        split: ``"test"`` (1,319 problems) or ``"train"`` (7,473).
        limit: number of problems, from the first on; None is all.
        form: ``"chat"`` asks with `instruction`; ``"completion"`` continues "Question: ...
            Answer:" after `num_shots` solved problems, for base models.
        instruction: follows the question in the chat form; may be empty.
        num_shots: solved problems shown in the completion form, up to 8; the first of the training
            split, with their calculator annotations removed.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if the form is unknown or a number is out of range.
    """

    name: ClassVar[str] = "gsm8k"
    path: str = "openai/gsm8k"
    split: str = "test"
    limit: int | None = None
    form: Form = "chat"
    instruction: str = INSTRUCTION
    num_shots: int = 8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        shots = at_least(0, MOST_SHOTS)
        check_settings(self, limit=at_least(1), num_shots=shots, max_tokens=at_least(1))
        require_bundled(self.path, split=(self.split, "test"))

    @property
    def stop(self) -> tuple[str, ...]:
        """The next question, in the completion form."""
        return STOP[self.form]

    @property
    def extract(self) -> Extract:
        """The final number."""
        return FinalNumber()

    def load(self) -> Sequence[Item]:
        """Problems in the data set's order, with ids such as ``test-17``."""
        rows = read_rows(
            self.path,
            split=self.split,
            limit=self.limit,
            subset="main",
            bundled="gsm8k/test.jsonl",
        )
        return require_distinct_ids(
            [
                word_problem(
                    row,
                    id=f"{self.split}-{index}",
                    form=self.form,
                    instruction=self.instruction,
                    num_shots=self.num_shots,
                )
                for index, row in enumerate(rows)
            ]
        )

    def prepare(self) -> None:
        """Nothing is needed."""

    def grade(self, item: Item, text: str) -> Grade:
        """1 if the final number has the right value, else 0."""
        return grade_number(text, item.gold)


STOP: dict[Form, tuple[str, ...]] = {"chat": (), "completion": ("\n\nQuestion:",)}
"""What ends an answer beside the end of sequence."""


def word_problem(
    row: Row, *, id: str, form: Form, instruction: str, num_shots: int, cluster: str = ""
) -> Item:
    """The item of a row in GSM8K's form.

    Raises:
        ConfigError: if the row has no question, or its answer no "####" with a number after it.
    """
    question = str(column(row, "question"))
    messages = (Message("user", f"{question}\n\n{instruction}" if instruction else question),)
    text = _completion(question, num_shots) if form == "completion" else None
    return Item(id=id, messages=messages, text=text, gold=_final(row), cluster=cluster)


def _final(row: Row) -> str:
    _, marked, final = str(column(row, "answer")).rpartition("####")
    if not marked:
        raise ConfigError(f"the answer {row['answer']!r} does not end in '#### N'")
    value = read_number(final)
    if value is None:
        raise ConfigError(
            f"the right answer {final.strip()!r} is not a number: see "
            "rsalign.selectors.numbers for "
            "what is read as one"
        )
    return spell(value)


def _completion(question: str, num_shots: int) -> str:
    return "\n\n".join([*_shots()[:num_shots], f"Question: {question}\nAnswer:"])


@cache
def _shots() -> list[str]:
    rows = read_rows(BUNDLED, split="train", limit=MOST_SHOTS, bundled="gsm8k/shots.jsonl")
    return [f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows]
