"""Calls of other people's code: whatever it raises becomes an error of this package.

A tokenizer, a chat template, a reward function or a selector may raise anything on one user's text.
Such calls are made inside `errors_as`: one prompt then fails with a clear error, and the other
prompts and the process are not affected.
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
"""Bytecode instructions at which a coroutine or generator is suspended."""


@contextlib.contextmanager
def errors_as(
    error: Callable[[BaseException], RsalignError],
    *,
    kept: type[RsalignError] | tuple[()] = RsalignError,
) -> Iterator[None]:
    """Runs a block that calls other people's code, and raises its failures as ``error(failure)``.

    The original failure is the cause of the new error. `SystemExit` and other exceptions outside
    `Exception` are converted as well: the called code cannot end this process. These exceptions
    pass unchanged: errors of this package, an interrupt raised by a signal handler (Ctrl-C, or the
    caller's own handler that exits), the cancellation of the running task, and the closing of a
    coroutine. A `CancelledError` or `GeneratorExit` that nobody requested is an ordinary failure.

    Args:
        error: creates the new error from the failure.
        kept: errors of this package that pass unchanged; ``()``: none.

    Example:
        >>> from rsalign import StrategyError
        >>> with errors_as(lambda failure: StrategyError(f"raised {describe_error(failure)}")):
        ...     {}["missing"]
        Traceback (most recent call last):
        rsalign.core.errors.StrategyError: raised KeyError: 'missing'
    """
    try:
        yield
    except BaseException as failure:
        if isinstance(failure, kept) or is_order(failure):
            raise
        raise error(failure) from failure


def is_order(failure: BaseException) -> bool:
    """Whether an exception is a request to stop the task, process or coroutine, not a failure."""
    return is_cancellation(failure) or is_interrupt(failure) or is_closing(failure)


def is_cancellation(failure: BaseException) -> bool:
    """Whether it is the cancellation of the running task, and not of something it waited for."""
    if not isinstance(failure, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


def is_closing(failure: BaseException) -> bool:
    """Whether Python raised it to close a coroutine or generator (and no code raised it itself).

    Python raises it where the coroutine is suspended, at an ``await`` or ``yield``.
    """
    step = failure.__traceback__
    if not isinstance(failure, GeneratorExit) or step is None:
        return False
    while step.tb_next is not None:
        step = step.tb_next
    return dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] in _WAITS


def is_interrupt(failure: BaseException) -> bool:
    """Whether a signal handler raised it, so that it is meant for the whole process.

    Only the main thread receives signals. A handler that is written in Python has a frame in the
    traceback; Python's default handler of SIGINT has none.
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
    """Describes an exception in one line: class name and message."""
    return f"{type(failure).__name__}: {error_message(failure)}".rstrip(": ")


def error_message(failure: BaseException) -> str:
    """Returns the message of an exception in one line, shortened."""
    return in_one_line(failure, str, longest=240)


def _code(handler: Any) -> CodeType | None:
    """Returns the code object of a signal handler that is written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    code: CodeType | None = getattr(function, "__code__", None)
    return code
