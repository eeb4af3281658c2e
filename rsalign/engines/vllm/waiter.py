"""One open request of an engine in this process, and the future that waits for it."""

import asyncio
from typing import Any

from rsalign.core.errors import EngineError, RsalignError
from rsalign.core.types import Tokens


class Waiter:
    """One open request and the future that waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.external = self.internal = ""
        self.state: Any = None
        self.gone = False

    def drawn(self) -> Tokens:
        """Tokens drawn so far, read from vLLM's own record of the request."""
        detokenizer = getattr(self.state, "detokenizer", None)
        return tuple(detokenizer.output_token_ids) if detokenizer is not None else ()

    def fail(self, failure: BaseException) -> None:
        """Tells who waits; what is no error of ours is the end of the engine."""
        if self.future.done():
            return
        if not isinstance(failure, RsalignError):
            died = EngineError(
                f"the engine died while this request was open ({failure!r}): close it and start "
                "another"
            )
            died.__cause__ = failure
            failure = died
        self.future.set_exception(failure)


def deliver(results: list[tuple[Waiter, Any]]) -> None:
    """Hands out outputs, on the loop of those who wait for them."""
    for waiter, output in results:
        if not waiter.future.done():
            waiter.future.set_result(output)
