"""What this process has graded: a text is graded once, in however many jobs it comes up.

Strategies that choose among one pool of draws consider the same texts again and again, and a grade
is a pure function of item and text.
"""

import hashlib
from collections import defaultdict
from typing import TypeAlias

from eval.tasks.protocol import Grade, Item, Task
from eval.tasks.worker import pickled

Known: TypeAlias = dict[bytes, Grade]
"""Grades of one task by `address`."""

_known: defaultdict[tuple[bytes, str], Known] = defaultdict(dict)


def known(task: Task, grader: str = "") -> Known:
    """The grades of a task's answers, for whoever asks about it or about an equal one.

    Args:
        task: whose items are answered.
        grader: the name of who grades them; empty: the task itself.

    Raises:
        ConfigError: if the task cannot be pickled.
    """
    return _known[pickled(task), grader]


def address(item: Item, text: str) -> bytes:
    """Tells an answer from another; a digest, since texts are long and there are many."""
    return hashlib.blake2b(repr((item.id, text)).encode(), digest_size=16).digest()
