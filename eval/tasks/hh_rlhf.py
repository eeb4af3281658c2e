r"""HH-RLHF: dialogues that an assistant must go on (Bai et al. 2022, arXiv:2204.05862).

Rows: ``chosen`` and ``rejected``, whole dialogues with "\n\nHuman:" and "\n\nAssistant:".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from eval.tasks.protocol import Grade, Item, require_distinct_ids, ungradable
from eval.tasks.rows import Row, column, read_rows, require_bundled
from rsalign import ConfigError, Message
from rsalign.core.checks import at_least, check_settings

Subset: TypeAlias = Literal[
    "helpful-base", "helpful-online", "helpful-rejection-sampled", "harmless-base"
]
_SUBSETS = ("helpful-base", "helpful-online", "helpful-rejection-sampled", "harmless-base")

_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HhRlhf:
    """Dialogues up to the assistant's last turn, which is to be written.

    A program cannot grade such an answer: `grade` never tells. Name a grader (``grader=reward``,
    ``reference`` or ``harm``): another reward model, a comparison by it with what people chose
    (``item.gold["chosen"]``), or a judge.

    Attributes:
        path: local file or folder, Hugging Face id, or ``"bundled"`` for 30 harmless dialogues.
        subset: which of the hub's folders is read; the name of the items' group.
        split: ``"test"`` or ``"train"``.
        limit: number of dialogues, from the first on; None is all.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if the subset is unknown or a number is out of range.
    """

    name: ClassVar[str] = "hh_rlhf"
    stop: ClassVar[tuple[str, ...]] = ()
    extract: ClassVar[None] = None
    path: str = "Anthropic/hh-rlhf"
    subset: Subset = "harmless-base"
    split: Literal["test", "train"] = "test"
    limit: int | None = None
    max_tokens: int = 256

    def __post_init__(self) -> None:
        check_settings(self, limit=at_least(1), max_tokens=at_least(1))
        require_bundled(
            self.path, subset=(self.subset, "harmless-base"), split=(self.split, "test")
        )

    def load(self) -> Sequence[Item]:
        """Dialogues in the data set's order; ``gold`` has the replies ``chosen`` and ``rejected``.

        ``rejected`` is None in the few rows where it answers another dialogue.
        """
        rows = read_rows(
            self.path,
            split=self.split,
            limit=self.limit,
            bundled="hh_rlhf/harmless-base-test.jsonl",
            hub_file=f"{self.subset}/{self.split}.jsonl.gz",
        )
        return require_distinct_ids([self._item(row, index) for index, row in enumerate(rows)])

    def _item(self, row: Row, index: int) -> Item:
        *messages, chosen = _turns(str(column(row, "chosen")))
        *others, rejected = _turns(str(column(row, "rejected")))
        return Item(
            id=f"{self.split}-{index}",
            messages=tuple(messages),
            gold={
                "chosen": chosen.content,
                "rejected": rejected.content if others == messages else None,
            },
            group=self.subset,
        )

    def prepare(self) -> None:
        """Nothing is needed."""

    def grade(self, item: Item, text: str) -> Grade:
        """None: nobody can tell without a reward."""
        return ungradable("a dialogue is graded by a reward or a judge: name one, as grader=reward")


def _turns(dialogue: str) -> list[Message]:
    """The turns, alternating; the last is the assistant's.

    A few dialogues have two turns of one speaker in a row, which chat templates refuse: they count
    as one turn.

    Raises:
        ConfigError: if the dialogue has another form.
    """
    turns: list[Message] = []
    for block in dialogue.split("\n\n"):
        speaker, colon, said = block.partition(":")
        opens = bool(colon) and speaker in _ROLES
        if not turns and not opens:
            if block.strip():
                break
        elif opens and (not turns or turns[-1].role != _ROLES[speaker]):
            turns.append(Message(_ROLES[speaker], said.strip()))
        else:  # one more paragraph
            more = said.strip() if opens else block
            turns[-1] = Message(turns[-1].role, f"{turns[-1].content}\n\n{more}".strip())
    if len(turns) < 2 or turns[0].role != "user" or turns[-1].role != "assistant":
        raise ConfigError(
            f"the dialogue {dialogue[:80]!r} does not begin with '\\n\\nHuman:' and end with an "
            "assistant's turn"
        )
    return turns
