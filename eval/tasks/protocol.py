"""What a task is: items to answer, and a grade for each answer.

A task is a frozen dataclass whose fields are its configuration. Tasks of text are graded by what
was written (`Task`); tasks of choices by how probable each given answer is (`ChoiceTask`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from rsalign import ConfigError, Message
from rsalign.core.checks import at_least, check_settings
from rsalign.selectors.extraction import Extract

JSON: TypeAlias = str | int | float | bool | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What a JSON file can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem.

    Attributes:
        id: the same on every machine and in every run; unique within the task.
        messages: what is asked, as a conversation; a reward model is shown it too.
        text: if not None, the policy continues this plain text instead (completion form).
        gold: JSON data that the task's grader needs; opaque to everyone else.
        group: subset, subject or category; empty if there is none.
        cluster: what items that vary one original share; intervals and tests count them as one.
            Empty: the item stands alone.
    """

    id: str
    messages: tuple[Message, ...]
    text: str | None = None
    gold: Any = None
    group: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The verdict on one answer.

    Attributes:
        score: 0 (failure) to 1 (success); None if nobody can tell, which is never a success.
            ``details["ungradable"]`` then says why.
        answer: what was found in the text; None if nothing was.
        details: JSON data for the record.

    Raises:
        ConfigError: if the score is not between 0 and 1.
    """

    score: float | None
    answer: str | None = None
    details: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, score=at_least(0.0, 1.0, note="None is ungradable"))


def abstention(reason: str) -> Grade:
    """Makes the grade of a strategy that gave no answer: no success, and no error of a grader."""
    return Grade(score=0.0, details={"abstained": reason})


def ungradable(reason: str, *, answer: str | None = None) -> Grade:
    """Makes a grade without a score, which says why there is none."""
    return Grade(score=None, answer=answer, details={"ungradable": reason})


@runtime_checkable
class Task(Protocol):
    """Problems whose answers are texts.

    Laws: `load` returns the same items every time; `grade` is a pure function that leaves nothing
    behind; the task can be pickled. `grade` may take long, or for ever, on a hostile text: grade
    what a model wrote in a `eval.tasks.pool.GradingPool`.
    """

    @property
    def name(self) -> str:
        """As in `eval.tasks.registry.TASKS`."""
        ...

    @property
    def max_tokens(self) -> int:
        """A sensible greatest length of an answer."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer, beside the policy's own."""
        ...

    @property
    def extract(self) -> Extract | None:
        """What two answers must share to vote together; None if they cannot be compared."""
        ...

    def load(self) -> Sequence[Item]:
        """All items, in a fixed order.

        Raises:
            ConfigError: if the data are not there or not in a form that the task knows.
            InstallError: if a package that reads them is missing.
        """
        ...

    def prepare(self) -> None:
        """Imports what grading needs, so that no answer's time limit pays for it.

        Raises:
            InstallError: if a package that grading needs is missing.
        """
        ...

    def grade(self, item: Item, text: str) -> Grade:
        """The verdict on `text`, an answer to `item`."""
        ...


@runtime_checkable
class JudgedElsewhere(Protocol):
    """A task whose answers another tool judges, which reads them from a file."""

    def write(self, answers: Sequence[tuple[Item, str]], folder: Path, *, name: str) -> Path:
        """Writes all answers, one an item, as that tool reads them; overwrites the file.

        Args:
            answers: items with what was written.
            folder: where to.
            name: of who answered; part of the file's name.

        Raises:
            ConfigError: if an item has two answers, or there are none.
        """
        ...


@runtime_checkable
class ChoiceTask(Protocol):
    """Problems whose answers are given and only need to be weighed; nothing is written."""

    @property
    def name(self) -> str:
        """As in `eval.tasks.registry.TASKS`."""
        ...

    def load(self) -> Sequence[Item]:
        """As `Task.load`."""
        ...

    def choices(self, item: Item) -> tuple[str, ...]:
        """The possible continuations of the prompt, each as it follows ``item.text``."""
        ...

    def grade_choices(self, item: Item, log_probs: Sequence[float]) -> Grade:
        """The verdict on a policy.

        Args:
            item: the problem.
            log_probs: ln pi(choice | prompt), nats, ``(choices,)``; of whole choices, not per
                token.

        Raises:
            ConfigError: if there are not as many log-probabilities as choices, or one is NaN or
                above 0.
        """
        ...


def require_one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Refuses a setting that is none of `allowed`.

    Raises:
        ConfigError: if so.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{name}={value!r}: choose one of {', '.join(map(repr, allowed))}")


def require_distinct_ids(items: Sequence[Item]) -> Sequence[Item]:
    """Returns the items, if no two share an id.

    Raises:
        ConfigError: if two do.
    """
    twice = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{len(twice)} ids occur more than once, the first is {twice[0]!r}: results are kept "
            "by id, so give a file in which they differ"
        )
    return items
