"""Any Python function as a reward."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeAlias

from rsalign.errors import RewardError
from rsalign.types import Prompt, Response

RewardFunction: TypeAlias = Callable[[str, str], float | Awaitable[float]]
"""Maps the prompt's text and the response's text to a number; higher is better."""


class FunctionReward:
    """A function (prompt_text, response_text) -> float, sync or async, as a reward.

    A sync function runs on a thread and never stalls the engine. It must be a fixed function of its
    arguments: samplers ask about a response once and rely on the answer.

    Args:
        function: the function.
        num_threads: how many calls of a sync function may run at once.
    """

    def __init__(self, function: RewardFunction, *, num_threads: int = 4) -> None:
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object may be callable
        )
        self._executor: Executor = ThreadPoolExecutor(num_threads, "rsalign-reward")

    async def score(self, prompt: Prompt, response: Response) -> float:
        """What the function returns.

        Raises:
            RewardError: if the function raised or returned no number.
        """
        try:
            value = await self._call(prompt.text, response.text)
        except Exception as failure:
            raise RewardError(
                f"the reward function {self._name} raised {failure!r} on {response.text!r}: mend "
                "it, or catch what it may raise and return a number",
                prompt=prompt,
                response=response,
            ) from failure
        try:
            return float(value)
        except (TypeError, ValueError):
            raise RewardError(
                f"the reward function {self._name} returned {value!r} for {response.text!r}, but "
                "must return a number",
                prompt=prompt,
                response=response,
            ) from None

    def close(self) -> None:
        """Ends the threads; calls that have not begun are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def _name(self) -> str:
        return getattr(self._function, "__qualname__", type(self._function).__name__)

    async def _call(self, prompt: str, response: str) -> float:
        if self._is_async:
            value = self._function(prompt, response)
        else:
            loop = asyncio.get_running_loop()
            value = await loop.run_in_executor(self._executor, self._function, prompt, response)
        return await value if inspect.isawaitable(value) else value
