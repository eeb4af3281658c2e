"""The end of a server in good order, and what tells a load balancer whether it can take requests.

On SIGTERM the server takes on nothing more (503 with a Retry-After header) and gives open requests
some time. Those by strategies that are left then end with their best answers so far, and only then
does the engine stop.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rsalign.serve.client import AlignedClient

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05
_ABORT_SECONDS = 5.0
"""For responses to be sent after their requests were ended."""
_PROBES = ("/health", "/ready", "/metrics", "/ping", "/load", "/version")
_NUM_OPEN = "rsalign_num_open"


class OpenRequests:
    """ASGI middleware: counts requests under way, but not those that look after the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; ``/health`` fails while the server is shutting down."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["app"].state
        client = getattr(state, "engine_client", None)
        if scope["path"] in _PROBES:
            stopping = isinstance(client, AlignedClient) and client.admission.stopping
            app = _say_stopping if stopping and scope["path"] == "/health" else self._app
            await app(scope, receive, send)
            return
        setattr(state, _NUM_OPEN, num_open(state) + 1)
        try:
            await self._app(scope, receive, send)
        finally:
            setattr(state, _NUM_OPEN, num_open(state) - 1)


def num_open(state: Any) -> int:
    """How many HTTP requests are under way."""
    return int(getattr(state, _NUM_OPEN, 0))


async def answer_ready(request: Request) -> JSONResponse:
    """Answers ``/ready``: 200 if requests can be answered now, else 503, and why.

    A reward whose last calls failed is asked once more, so that a server without traffic notices
    that it works again.
    """
    client = getattr(request.app.state, "engine_client", None)
    if not isinstance(client, AlignedClient):
        return JSONResponse({"ready": False, "reason": "starting"}, status_code=503)
    reward = "none"
    if client.reward is not None:
        works = client.reward.health.works or await client.reward.probe()
        reward = "works" if works else "fails"
    reason = "stopping" if client.admission.stopping else "the reward fails" * (reward == "fails")
    return JSONResponse(
        {"ready": not reason, "reason": reason, "reward": reward},
        status_code=503 if reason else 200,
    )


async def drain(client: AlignedClient, count_open: Callable[[], int], seconds: float) -> None:
    """Takes on nothing more, and waits until all requests are answered.

    Args:
        client: whose requests they are.
        count_open: how many HTTP requests are under way.
        seconds: after so long, requests by strategies end with their best answers so far.
    """
    client.admission.stop()
    logger.info("shutting down: %d requests have %g seconds to end", count_open(), seconds)
    if not await _wait_until(lambda: count_open() == 0, seconds):
        logger.info("shutting down: %d requests end with what there is", count_open())
        client.expire_all()
        await _wait_until(lambda: count_open() == 0, min(_ABORT_SECONDS, seconds))


async def _wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


async def _say_stopping(scope: Scope, receive: Receive, send: Send) -> None:
    response = JSONResponse({"status": "stopping"}, status_code=503, headers={"Retry-After": "1"})
    await response(scope, receive, send)
