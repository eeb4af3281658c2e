"""Prompts of your own, from a file: one row a prompt, with a right answer if there is one.

    python -m eval.run task=prompts task.path=mine.jsonl task.metric=number

Rows: ``prompt`` (or ``question``, ``instruction``, ``text``), a text; or ``messages``, a
conversation. Optional: ``answer`` (or ``target``, ``gold``), a text, a number, or a list of right
answers; ``id``; ``group``, by which the report counts apart; ``cluster``, for variants of one
prompt. A metric of your own is given the whole row.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from eval.graders.math_answers import FinalExpression, grade_math, grade_number, prepare_math
from eval.tasks.protocol import Grade, Item, require_distinct_ids, ungradable
from eval.tasks.rows import Row, column, read_rows
from rsalign import ConfigError, Message
from rsalign.core.checks import at_least, check_settings, quote
from rsalign.selectors.extraction import Extract, FinalNumber, WholeText
from rsalign.selectors.numbers import read_number
from rsalign.words.models import is_reference, load

Metric: TypeAlias = Callable[[str, Mapping[str, Any]], float | bool | None]
"""Maps an answer and the row of its prompt to 0 (failure) .. 1 (success); None: nobody can tell."""

METRICS = ("none", "exact", "contains", "number", "math")
"""What is known by name; anything else is ``module:name`` of a `Metric`."""

_PROMPT = ("prompt", "question", "instruction", "text")
_ANSWER = ("answer", "target", "gold")
_AT_ENDS = " \t\n.,;:!?\"'`*()[]{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Success is what `metric` says.

    Attributes:
        path: local file (JSON lines, a JSON list, CSV, Parquet) or folder, or Hugging Face id.
        split: the split's name, for a folder or the hub.
        limit: number of rows, from the first on; None is all.
        metric: ``"none"``: no grade, only rewards are compared; ``"exact"``: the answer is a right
            one, but for case, white space and marks at its ends; ``"contains"``: a right one occurs
            in it, in any case; ``"number"``: its final number has the right value; ``"math"``: so
            has its final expression; or ``module:name`` of a function ``(answer, row)`` that
            returns 0 to 1 (`Metric`).
        form: ``"chat"`` renders the prompt as a conversation; ``"completion"`` continues its text.
        system: a system message before each prompt; empty: none.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if a setting is out of range, or the metric cannot be loaded.

    Example:
        >>> task = Prompts(path="mine.jsonl", metric="exact")
        >>> item = Item(id="0", messages=(Message("user", "Capital of France?"),),
        ...             gold={"answer": "Paris"})
        >>> task.grade(item, " paris. ").score, task.grade(item, "Rome").score
        (1.0, 0.0)
    """

    name: ClassVar[str] = "prompts"
    stop: ClassVar[tuple[str, ...]] = ()
    path: str = ""
    split: str = "test"
    limit: int | None = None
    metric: str = "none"
    form: Literal["chat", "completion"] = "chat"
    system: str = ""
    max_tokens: int = 512

    def __post_init__(self) -> None:
        check_settings(self, limit=at_least(1), max_tokens=at_least(1))
        if self.metric not in METRICS and not is_reference(self.metric):
            raise ConfigError(
                f"metric={quote(self.metric)}: choose one of {', '.join(METRICS)}, or give "
                "module:name of a function of an answer and its row that returns 0 to 1"
            )
        if self.form == "completion" and self.system:
            raise ConfigError("system is part of a conversation: use form=chat, or leave it out")
        self._own_metric()

    @property
    def extract(self) -> Extract | None:
        """What answers share to vote together: what the metric compares."""
        if self.metric == "number":
            return FinalNumber()
        if self.metric == "math":
            return FinalExpression()
        return WholeText() if self.metric == "exact" else None

    def load(self) -> Sequence[Item]:
        """The rows of the file, in its order; the id is the row's own, or its number."""
        if not self.path:
            raise ConfigError("task.path is missing: give a file with a row for each prompt")
        rows = read_rows(self.path, split=self.split, limit=self.limit)
        return require_distinct_ids([self._item(row, i) for i, row in enumerate(rows)])

    def prepare(self) -> None:
        """Imports what the metric needs."""
        if self.metric == "math":
            prepare_math()

    def grade(self, item: Item, text: str) -> Grade:
        """What the metric says of `text`."""
        if self.metric == "none":
            return ungradable("metric=none: only the rewards of this task are compared")
        if (own := self._own_metric()) is not None:
            return _graded_by(own, self.metric, text, item.gold)
        right = _right_answers(item.gold)
        if self.metric == "number":
            grades = [grade_number(text, one) for one in right]
        elif self.metric == "math":
            grades = [grade_math(text, one) for one in right]
        else:
            compare = _is_equal if self.metric == "exact" else _is_within
            found = any(compare(one, text) for one in right)
            return Grade(score=float(found), answer=_plain(text) if found else None)
        return max(grades, key=lambda grade: grade.score or 0.0)

    def _own_metric(self) -> Metric | None:
        if self.metric in METRICS:
            return None
        found = load("the metric", self.metric)
        if not callable(found) or inspect.isclass(found):
            raise ConfigError(f"metric={self.metric!r} is {quote(found)}: name a function")
        metric: Metric = found
        return metric

    def _item(self, row: Row, index: int) -> Item:
        place = f"row {index + 1} of {self.path}"
        if "messages" in row:
            messages = tuple(Message.of(one) for one in _messages(row["messages"], place))
        else:
            messages = (Message("user", str(column(row, *_PROMPT))),)
        if self.metric in ("exact", "contains", "number", "math"):
            self._check_gold(row, place)
        if self.form == "completion" and (len(messages) > 1 or messages[0].role != "user"):
            raise ConfigError(f"{place} is a conversation, which form=completion cannot continue")
        text = messages[0].content if self.form == "completion" else None
        system = (Message("system", self.system),) if self.system else ()
        return Item(
            id=str(row.get("id", index)),
            messages=(*system, *messages),
            text=text,
            gold=dict(row),
            group=str(row.get("group") or ""),
            cluster=str(row.get("cluster") or ""),
        )

    def _check_gold(self, row: Row, place: str) -> None:
        right = _right_answers(row)
        if not right or not all(right):
            raise ConfigError(
                f"{place} has no right answer in a column {' or '.join(_ANSWER)}, which "
                f"metric={self.metric} compares with: add it, or use metric=none"
            )
        wrong = [one for one in right if self.metric == "number" and read_number(one) is None]
        if wrong:
            raise ConfigError(f"{place}: the right answer {quote(wrong[0])} is no number")


def named_task(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """A task of one's own: ``task=named task.name=module:Class +task.settings.limit=10``.

    Args:
        name: ``module:name`` of a class of `eval.tasks.protocol.Task`, or of a task.
        settings: arguments of the class.

    Raises:
        ConfigError: if it cannot be loaded or made, or is no task.
    """
    from eval.tasks.protocol import ChoiceTask, Task

    if not is_reference(name):
        raise ConfigError(f"task.name={quote(name)}: give module:name of a task of your own")
    found = load("the task", name)
    if inspect.isclass(found) or inspect.isfunction(found):
        try:
            found = found(**(settings or {}))
        except TypeError as error:
            raise ConfigError(f"{name} cannot be made of task.settings: {error}") from error
    elif settings:
        raise ConfigError(f"{name} is a task already: task.settings are for a class")
    if not isinstance(found, Task | ChoiceTask):
        raise ConfigError(
            f"{name} is {quote(found)}, which is no task: see eval.tasks.protocol.Task for what "
            "one has"
        )
    return found


def _messages(given: Any, place: str) -> Sequence[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ConfigError(f"{place}: messages={quote(given)} must be a list of messages")
    return given


def _right_answers(row: Mapping[str, Any]) -> list[str]:
    found: Any = next((row[name] for name in _ANSWER if row.get(name) is not None), [])
    return [str(one) for one in (found if isinstance(found, list | tuple) else [found])]


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(_AT_ENDS).casefold()


def _is_equal(right: str, text: str) -> bool:
    return _plain(right) == _plain(text)


def _is_within(right: str, text: str) -> bool:
    return _plain(right) in re.sub(r"\s+", " ", text).casefold()


def _graded_by(metric: Metric, name: str, text: str, row: Mapping[str, Any]) -> Grade:
    score = metric(text, row)
    if score is None:
        return ungradable(f"{name} returned None")
    if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        return ungradable(f"{name} returned {quote(score)}, which is no number from 0 to 1")
    return Grade(score=float(score))
