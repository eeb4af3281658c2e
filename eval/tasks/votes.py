"""Selectors of a task: strategies compare answers in the way in which its grader reads them."""

from eval.tasks.protocol import Task
from rsalign import ConfigError
from rsalign.selectors import Last, MajorityVote
from rsalign.selectors.extraction import Extract
from rsalign.selectors.protocol import Selector


def extract_of(task: Task) -> Extract:
    """Returns the extractor by which answers to a task vote.

    Raises:
        ConfigError: if the task's answers cannot be compared.
    """
    if task.extract is None:
        raise ConfigError(
            f"answers to task {task.name!r} cannot vote, because none of them equals another: take "
            "a strategy that compares them otherwise (best_of, soft, minimum_bayes_risk, cards)"
        )
    return task.extract


def answer_of(task: Task, votes: bool | None = None) -> Selector:
    """Returns the selector of a chain's answer: the majority of its states, or the last.

    Args:
        task: whose items are answered.
        votes: None: where the task's answers can be compared. The last state alone is a draw from
            the chain's law.

    Raises:
        ConfigError: if they are to vote and cannot.
    """
    if votes is None:
        votes = task.extract is not None
    return MajorityVote(extract=extract_of(task)) if votes else Last()
