"""Makes vLLM's application one that knows strategies."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rsalign.engines.vllm.openai_app import (
    create_error_response,
    exception_handler,
    http_exception_handler,
    model_card,
)
from rsalign.serve.client import AlignedClient
from rsalign.serve.failures import TooManyRequestsError
from rsalign.serve.handlers import (
    AlignedHandler,
    TokenizationHandler,
    closing,
    refuse_aliases,
    tell_conversations,
)

logger = logging.getLogger(__name__)

_HANDLERS = (
    *("openai_serving_completion", "openai_serving_chat", "openai_serving_chat_batch"),
    *("openai_serving_responses", "anthropic_serving_messages"),
)
# it has the server's default strategy, and no words of its own for another
_OTHER_HANDLERS = ("cohere_serving_chat_v2",)
_TOKENIZATION = "serving_tokenization"
# what Python raises where a type was not looked at: in vLLM's validators, such as that of
# structured_outputs, which calls `get` of whatever it is given
_SLIPS = (AttributeError, LookupError, AssertionError, ArithmeticError, RecursionError)
_WITH_ALIASES = (AlignedHandler, TokenizationHandler)
_PATHS = ("/v1/completions", "/v1/chat/completions")


def prepare_app(app: FastAPI) -> None:
    """Adds what an application must have before it is started."""
    app.add_middleware(Closing)
    app.exception_handler(TooManyRequestsError)(_too_many_requests)
    app.exception_handler(HTTPException)(http_exception_handler)  # vLLM: FastAPI's subclass only
    for kind in _SLIPS:
        app.exception_handler(kind)(_slipped)


def align_state(state: Any, client: AlignedClient, *, interval_seconds: float) -> None:
    """Puts the client under vLLM's handlers, and ours over those of completions.

    Args:
        state: of an application whose handlers are there.
        client: answers.
        interval_seconds: longest silence of a stream.
    """
    state.engine_client = client
    if (responses := getattr(state, "openai_serving_responses", None)) is not None:
        tell_conversations(responses)
    for name in (*_HANDLERS, *_OTHER_HANDLERS):
        handler = getattr(state, name, None)
        if handler is not None:
            handler.engine_client = client
            if name in _HANDLERS:
                setattr(state, name, AlignedHandler(handler, client.menu, interval_seconds))
    tokenization = getattr(state, _TOKENIZATION, None)
    if tokenization is not None:
        setattr(state, _TOKENIZATION, TokenizationHandler(tokenization))
    for handler in vars(state)["_state"].values():
        if hasattr(handler, "_check_model") and not isinstance(handler, _WITH_ALIASES):
            refuse_aliases(handler)
    _show_aliases(state.openai_serving_models, client)


class Closing:
    """Closes what a request has left open, whoever lost interest in it, and whenever."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        calls = closing(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            for close in calls:
                await close()


def _show_aliases(models: Any, client: AlignedClient) -> None:
    show = models.show_available_models

    async def show_with_aliases() -> Any:
        listed = await show()
        for card in [card for card in listed.data if card.parent is None]:
            listed.data += [
                model_card(f"{card.id}:{alias}", like=card) for alias in client.menu.aliases()
            ]
        return listed

    models.show_available_models = show_with_aliases


async def _too_many_requests(_: Request, busy: TooManyRequestsError) -> JSONResponse:
    answer = create_error_response(busy)
    return JSONResponse(
        answer.model_dump(),
        status_code=answer.error.code,
        headers={"Retry-After": str(busy.retry_after_seconds)},
    )


async def _slipped(request: Request, slip: Exception) -> JSONResponse:
    """Until a request has been understood, it is at fault for what happens."""
    answer: JSONResponse
    understood = hasattr(request.state, "request_metadata")
    if understood or not request.url.path.endswith(_PATHS):
        answer = await exception_handler(request, slip)
        return answer
    # what it says may be of the request's text
    logger.info("a request that cannot be understood: %s", type(slip).__name__)
    logger.debug("it failed so", exc_info=slip)
    refused = create_error_response(
        f"the request cannot be understood ({type(slip).__name__}: {slip}): check the types of "
        "its values"
    )
    return JSONResponse(refused.model_dump(), status_code=refused.error.code)
