"""The edge around code that is not ours: whatever it raises becomes an error of ours.

A tokenizer, a chat template, a reward function, a selector: any of them may raise anything on one
user's text. The call is made inside `errors_as`, so that one prompt fails with a clear error and
neither the other prompts nor the process that answers them are harmed.
"""

import asyncio
import contextlib
import dis
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from rsalign.core.declared import in_one_line
from rsalign.core.errors import RsalignError

_WAITS = frozenset({"RESUME", "SEND", "YIELD_VALUE"})
"""The instructions at which a coroutine or generator waits to go on."""


@contextlib.contextmanager
def errors_as(
    error: Callable[[BaseException], RsalignError],
    *,
    kept: type[RsalignError] | tuple[()] = RsalignError,
) -> Iterator[None]:
    """Runs a block that calls foreign code; what it raises is raised as ``error(failure)``.

    The failure is the new error's cause. `SystemExit` and other exceptions that are no `Exception`
    are treated alike: foreign code cannot end this process. Left as they are: errors of ours, an
    interrupt that a signal handler raised (Ctrl-C, or a handler of the caller's own that exits),
    the cancellation of the task that runs the block, and the end of a coroutine that is closed. A
    `CancelledError` or `GeneratorExit` that nobody asked for is a failure like any other.

    Args:
        error: makes the error, given what was raised.
        kept: errors of ours that are left as they are; ``()`` is none.
    """
    try:
        yield
    except BaseException as failure:
        if isinstance(failure, kept) or is_order(failure):
            raise
        raise error(failure) from failure


def is_order(failure: BaseException) -> bool:
    """Whether this is no failure, but tells the task, the process or the coroutine to stop."""
    return is_cancellation(failure) or is_interrupt(failure) or is_closing(failure)


def is_cancellation(failure: BaseException) -> bool:
    """Whether this is the cancellation of the running task, and not of something it waited for."""
    if not isinstance(failure, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


def is_closing(failure: BaseException) -> bool:
    """Whether Python raised this to close a coroutine or generator, and no code that runs.

    It is then raised where something waits, at an ``await`` or ``yield``.
    """
    step = failure.__traceback__
    if not isinstance(failure, GeneratorExit) or step is None:
        return False
    while step.tb_next is not None:
        step = step.tb_next
    return dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] in _WAITS


def is_interrupt(failure: BaseException) -> bool:
    """Whether a signal handler raised this, and no code that runs: it is meant for the process.

    Only the main thread receives signals. The frame of a handler that is written in Python is in
    the traceback; Python's own handler of SIGINT is not.
    """
    if isinstance(failure, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    if (
        isinstance(failure, KeyboardInterrupt)
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        return True
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    step = failure.__traceback__
    while step is not None:
        if step.tb_frame.f_code in handlers:
            return True
        step = step.tb_next
    return False


def describe_error(failure: BaseException) -> str:
    """An exception in one line: its kind and what it says."""
    return f"{type(failure).__name__}: {error_message(failure)}".rstrip(": ")


def error_message(failure: BaseException) -> str:
    """What an exception says, in one line."""
    return in_one_line(failure, str, longest=240)


def _code(handler: Any) -> CodeType | None:
    """The code of a signal handler that is written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    code: CodeType | None = getattr(function, "__code__", None)
    return code
