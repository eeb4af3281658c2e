"""Any Python function as a reward: a heuristic, a verifier, a call to somewhere else."""

import asyncio
import inspect
import pickle
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from rsalign.core.checks import above, at_least, check_int, check_value, finite_or_none, part, quote
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.fingerprint import fingerprint as told
from rsalign.core.fingerprint import name_of
from rsalign.core.foreign import errors_as
from rsalign.core.types import Prompt, Response
from rsalign.rewards.child_processes import CallTimeoutError, ChildProcesses
from rsalign.rewards.workers import Attempt, DaemonThreads

RewardFunction: TypeAlias = Callable[[str, str], float | Awaitable[float]]
"""Maps the prompt's text and the response's text to a number; higher is better."""


class FunctionReward:
    """A function (prompt_text, response_text) -> float, sync or async, as a reward.

    A sync function runs on a thread, or in a process on request, and never stalls the engine. It
    must be a fixed function of its arguments: samplers ask about a response once and rely on the
    answer.

    Args:
        function: the function.
        pool: where a sync function runs: ``"thread"``, or ``"process"`` for one that computes in
            pure Python or must not share memory (it must then be importable, not a lambda).
        num_workers: how many calls of a sync function may run at once.
        fingerprint: tells the function from others in a journal (see `Reward`); default: the one
            that it has as an attribute, else a digest of its code and values.
        timeout_seconds: after which a call counts as failed, counted from when a worker is free
            for it; None waits for ever. A thread cannot be stopped: one that hangs is left behind
            and replaced. A process that hangs, or dies, is ended and replaced.

    Raises:
        ConfigError: if the pool is unknown or the function cannot go to another process.
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
    def fingerprint(self) -> str:
        """Tells this reward from others in a journal: what the function is, by content.

        Raises:
            ConfigError: if the function has no fingerprint (`rsalign.core.fingerprint`).
        """
        return f"function {self._fingerprint or told(self._function)}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """What the function returns.

        Raises:
            RewardError: if the function raised, whatever it was, took too long or returned no
                number.
        """
        deadline = asyncio.timeout(self._timeout_seconds if self._is_async else None)

        def error(said: str) -> RewardError:
            return RewardError(
                f"the reward function {self._name} {said}", prompt=prompt, response=response
            )

        def failed(failure: BaseException) -> RewardError:
            if deadline.expired() or isinstance(failure, CallTimeoutError):
                what = f"took longer than {self._timeout_seconds} seconds"
                mend = "mend it, or raise timeout_seconds of FunctionReward"
            else:
                what = f"raised {quote(failure, longest=320)}"
                mend = "mend it, or catch what it may raise and return a number"
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
        """Ends the workers; calls that have not begun are dropped."""
        self._threads.close()
        if self._processes is not None:
            self._processes.close()

    @property
    def _name(self) -> str:
        return name_of(self._function)

    async def _elsewhere(
        self, prompt: str, response: str, deadline: asyncio.Timeout
    ) -> "Attempt[float | Awaitable[float]]":
        """Calls a sync function; its time begins when a worker is free, not when it is asked."""
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
