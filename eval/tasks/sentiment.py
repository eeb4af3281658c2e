"""Sentiment steering: the beginning of a film review, to be gone on with in one polarity.

The beginnings are the first words of real reviews, half of them from good and half from bad ones,
as in controlled generation (Liu et al. 2021, DExperts, arXiv:2105.03023). Nothing in the prompt
says what is wanted: only the reward does.

Rows: ``text`` or ``sentence``, and perhaps ``label``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.graders.sentiment import Polarity, log_odds, shipped
from eval.tasks.protocol import Grade, Item, require_distinct_ids, ungradable
from eval.tasks.rows import BUNDLED, column, read_rows
from rsalign import Message
from rsalign.core.checks import at_least, check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentiment:
    """Success is a continuation that the gold classifier takes for the wanted polarity.

    The classifier is small (`eval.graders.sentiment`): it knows words, not negation or irony, and
    can be fooled by piling up praise, which a sampler that maximises a similar reward will do. A
    continuation without any word that it knows is ungradable.

    Attributes:
        path: local file or folder, Hugging Face id, or ``"bundled"`` for 100 beginnings.
        split: the split's name, for a folder or the hub.
        limit: number of texts, from the first on; None is all.
        polarity: what is wanted.
        num_words: how many words of each text are the prompt; shorter texts are left out.
        form: ``"completion"`` continues the words; ``"chat"`` asks for the rest of the review.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if a name is unknown or a number is out of range.
    """

    name: ClassVar[str] = "sentiment"
    stop: ClassVar[tuple[str, ...]] = ()
    extract: ClassVar[None] = None
    path: str = BUNDLED
    split: str = "test"
    limit: int | None = None
    polarity: Polarity = "positive"
    num_words: int = 4
    form: Literal["completion", "chat"] = "completion"
    max_tokens: int = 48

    def __post_init__(self) -> None:
        check_settings(self, limit=at_least(1), num_words=at_least(1), max_tokens=at_least(1))

    def load(self) -> Sequence[Item]:
        """Beginnings in the data set's order; the group is the original's label."""
        rows = read_rows(
            self.path,
            split=self.split,
            limit=None,
            bundled="sentiment/beginnings.jsonl",
        )
        items = []
        for index, row in enumerate(rows):
            beginning = str(column(row, "text", "sentence")).split()[: self.num_words]
            if len(beginning) < self.num_words:
                continue
            start = " ".join(beginning)
            items.append(
                Item(
                    id=f"{self.split}-{index}",
                    messages=(Message("user", f"Write the rest of this film review: {start}"),),
                    text=start if self.form == "completion" else None,
                    group=str(row.get("label", "")),
                )
            )
        return require_distinct_ids(items[: self.limit])

    def prepare(self) -> None:
        """Reads the classifier's weights."""
        shipped("gold")

    def grade(self, item: Item, text: str) -> Grade:
        """1 if the continuation is of the wanted polarity, 0 if of the other."""
        odds = log_odds(text, shipped("gold"))
        if odds == 0:
            return ungradable("the classifier knows no word of the text, or is undecided")
        found: Polarity = "positive" if odds > 0 else "negative"
        return Grade(score=float(found == self.polarity), answer=found, details={"log_odds": odds})
