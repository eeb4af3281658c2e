"""A task's own check as a reward: what best-of-n and its kin gain where answers can be verified.

Law: reward(prompt, response) = `credit` of the item if its task has one, else the score of its
grade; 0 where nobody can tell, for all answers to that item alike.

The grade and the reward are then one and the same: a sweep with it measures what searching gains
when nothing is lost to a wrong reward, which no reward model reaches.
"""

from dataclasses import dataclass, field
from typing import Any

from eval.tasks.protocol import Item, Task
from rsalign import ConfigError, Prompt, Response
from rsalign.core.checks import check_settings, part, quote


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReward:
    """The check of the task that is asked (``reward=task``).

    Attributes:
        task: whose check it is: the one of the sweep.

    Raises:
        ConfigError: if the task has no answers that are text.
    """

    task: Task
    _items: dict[Any, Item] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self, task=part("a task of text"))
        items: dict[Any, Item] = {}
        for item in self.task.load():
            items[item.messages] = item
            if item.text is not None:
                items[item.text] = item
        object.__setattr__(self, "_items", items)
        self.task.prepare()

    @property
    def fingerprint(self) -> str:
        """Identifies the check in a journal: the task and its settings."""
        return f"check of {self.task!r}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """See the module.

        Raises:
            ConfigError: if the prompt is none of the task's.
        """
        item = self._items.get(prompt.messages) or self._items.get(prompt.text)
        if item is None:
            raise ConfigError(
                f"the prompt {quote(prompt.text)} is none of the items of task {self.task.name}: "
                "reward=task judges only answers to the task of the same sweep"
            )
        credit = getattr(self.task, "credit", None)
        value = (credit or self._score)(item, response.text)
        return 0.0 if value is None else float(value)

    def _score(self, item: Item, text: str) -> float | None:
        return self.task.grade(item, text).score
