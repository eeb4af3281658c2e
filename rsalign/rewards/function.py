"""A Python function as a reward: a heuristic, a verifier, a request to another service."""

import asyncio
import inspect
import pickle
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from rsalign.core.checks import above, at_least, check_int, check_value, finite_or_none, part, quote
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.fingerprint import fingerprint as fingerprint_of
from rsalign.core.fingerprint import name_of
from rsalign.core.foreign import errors_as
from rsalign.core.types import Prompt, Response
from rsalign.rewards.child_processes import CallTimeoutError, ChildProcesses
from rsalign.rewards.workers import Attempt, DaemonThreads

RewardFunction: TypeAlias = Callable[[str, str], float | Awaitable[float]]
"""Maps the prompt's text and the response's text to a number; a higher one is better."""


class FunctionReward:
    """A function ``(prompt_text, response_text) -> float``, sync or async, as a reward.

    A sync function runs on a worker thread or in a child process, so that it does not block the
    engine. The function must be deterministic: samplers score a response once and rely on the
    value.

    Args:
        function: the function.
        pool: where a sync function runs: on a ``"thread"``, or in a child ``"process"``. Use a
            process for CPU-bound Python code; the function must then be picklable (a function at
            the top of a module, not a lambda).
        num_workers: greatest number of concurrent calls of a sync function.
        timeout_seconds: time limit of one call, counted from when a worker is free for it; None is
            no limit. A thread that hangs cannot be stopped: it is abandoned and replaced. A process
            that hangs or dies is killed and replaced.
        fingerprint: identifies the function in a journal (see `Reward`); default: the function's
            own attribute ``fingerprint``, else a digest of its code and of the values it uses.

    Raises:
        ConfigError: if `pool` is unknown, a number is out of range, or the function cannot be
            pickled for a process.

    Example:
        >>> import asyncio
        >>> from rsalign import Message, Prompt, Response, Stop
        >>> reward = FunctionReward(lambda question, answer: -abs(len(answer) - len(question)))
        >>> prompt = Prompt((Message("user", "2 + 2?"),), (1,))
        >>> asyncio.run(reward.score(prompt, Response((2,), "Four", Stop.EOS)))
        -2.0
    """

    def __init__(
        self,
        function: RewardFunction,
        *,
        pool: Literal["thread", "process"] = "thread",
        num_workers: int = 4,
        timeout_seconds: float | None = 300.0,
        fingerprint: str | None = None,
    ) -> None:
        name = "FunctionReward"
        check_value(
            name, "function", function, RewardFunction, part("a function or a callable object")
        )
        check_value(name, "pool", pool, Literal["thread", "process"])
        num_workers = check_int(name, "num_workers", num_workers, at_least(1))
        self._function = function
        limit = above(0.0, note="None waits for ever")
        self._timeout_seconds: float | None = check_value(
            name, "timeout_seconds", timeout_seconds, float | None, limit
        )
        self._fingerprint: str | None = check_value(name, "fingerprint", fingerprint, str | None)
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object may be callable
        )
        self._threads = DaemonThreads(num_workers, name="rsalign-reward")
        self._processes: ChildProcesses | None = None
        if pool == "process":
            self._check_picklable()
            self._processes = ChildProcesses(function, num_workers, timeout_seconds=timeout_seconds)

    @property
    def component_name(self) -> str:
        """The function's name, if it has one; `rsalign.core.capabilities.component_name`."""
        name = getattr(self._function, "__name__", "")
        return name if name.isidentifier() else "function"

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the content of the function.

        Raises:
            ConfigError: if the function has no fingerprint (`rsalign.core.fingerprint`).
        """
        return f"function {self._fingerprint or fingerprint_of(self._function)}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The number that the function returns.

        Raises:
            RewardError: if the function raised any exception, took too long, or did not return a
                finite number.
        """
        deadline = asyncio.timeout(self._timeout_seconds if self._is_async else None)

        def error(said: str) -> RewardError:
            return RewardError(
                f"the reward function {self._name} {said}", prompt=prompt, response=response
            )

        def failed(failure: BaseException) -> RewardError:
            if deadline.expired() or isinstance(failure, CallTimeoutError):
                what = f"took longer than {self._timeout_seconds} seconds"
                mend = "make it faster, or raise timeout_seconds of FunctionReward"
            else:
                what = f"raised {quote(failure, longest=320)}"
                mend = "correct it, or catch the exception and return a number"
            return error(f"{what} on {quote(response.text)}: {mend}")

        with errors_as(failed, kept=()):
            async with deadline:
                value: object
                if self._is_async:
                    value = self._function(prompt.text, response.text)
                else:
                    value = (await self._elsewhere(prompt.text, response.text, deadline)).value()
                if inspect.isawaitable(value):
                    value = await value
            found = finite_or_none(value)
        if found is None:
            raise error(
                f"returned {quote(value)} for {quote(response.text)}, but must return a finite "
                "number"
            )
        return found

    def close(self) -> None:
        """Ends the workers; calls that have not begun are not run."""
        self._threads.close()
        if self._processes is not None:
            self._processes.close()

    @property
    def _name(self) -> str:
        return name_of(self._function)

    async def _elsewhere(
        self, prompt: str, response: str, deadline: asyncio.Timeout
    ) -> "Attempt[float | Awaitable[float]]":
        """Calls a sync function on a worker; the time limit starts when a worker is free for it."""
        loop = asyncio.get_running_loop()
        is_over = False

        def begun() -> None:
            if self._timeout_seconds is not None and not is_over:
                deadline.reschedule(loop.time() + self._timeout_seconds)

        def begins() -> None:
            loop.call_soon_threadsafe(begun)

        def call() -> "Attempt[float | Awaitable[float]]":
            begins()
            return Attempt.of(self._function, prompt, response)

        if self._processes is not None:
            future = self._processes.submit(begins, prompt, response)
        else:
            future = self._threads.submit(call)
        try:
            return await asyncio.wrap_future(future)
        finally:
            is_over = True

    def _check_picklable(self) -> None:
        try:
            pickle.dumps(self._function)
        except Exception as failure:
            raise ConfigError(
                f"{self._name} cannot go to another process ({failure}): define it at the top of a "
                "module, or use pool='thread'"
            ) from failure
