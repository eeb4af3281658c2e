"""Puts strategies into vLLM's OpenAI application."""

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from rsalign.engines.vllm.openai_app import model_card
from rsalign.serve.client import AlignedClient
from rsalign.serve.errors import add_error_handlers
from rsalign.serve.handlers import (
    AlignedHandler,
    TokenizationHandler,
    list_closers,
    record_conversations,
    refuse_aliases,
)
from rsalign.serve.lifecycle import OpenRequests, answer_ready

_HANDLERS = (
    *("openai_serving_completion", "openai_serving_chat", "openai_serving_chat_batch"),
    *("openai_serving_responses", "anthropic_serving_messages"),
)
# uses the server's default strategy, and has no words for another
_OTHER_HANDLERS = ("cohere_serving_chat_v2",)
_TOKENIZATION = "serving_tokenization"
_WITH_ALIASES = (AlignedHandler, TokenizationHandler)


def prepare_app(app: FastAPI) -> None:
    """Adds middleware, error handlers and ``/ready`` to an application that is not started yet."""
    app.add_middleware(StreamCloser)
    app.add_middleware(OpenRequests)
    app.add_api_route("/ready", answer_ready)
    add_error_handlers(app)


def align_state(state: Any, client: AlignedClient, *, interval_seconds: float) -> None:
    """Makes vLLM's handlers use the client, and puts ours in front of those that generate.

    Args:
        state: of the application, once vLLM's handlers are in it.
        client: answers.
        interval_seconds: longest silence of a stream.
    """
    state.engine_client = client
    if (responses := getattr(state, "openai_serving_responses", None)) is not None:
        record_conversations(responses)
    for name in (*_HANDLERS, *_OTHER_HANDLERS):
        handler = getattr(state, name, None)
        if handler is not None:
            handler.engine_client = client
            if name in _HANDLERS:
                setattr(state, name, AlignedHandler(handler, client, interval_seconds))
    tokenization = getattr(state, _TOKENIZATION, None)
    if tokenization is not None:
        setattr(state, _TOKENIZATION, TokenizationHandler(tokenization))
    for handler in vars(state)["_state"].values():
        if hasattr(handler, "_check_model") and not isinstance(handler, _WITH_ALIASES):
            refuse_aliases(handler)
    _show_aliases(state.openai_serving_models, client)


class StreamCloser:
    """ASGI middleware: after each response, also an aborted one, closes its event streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and closes its streams when the response is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        closers = list_closers(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            for close in closers:
                await close()


def _show_aliases(models: Any, client: AlignedClient) -> None:
    show = models.show_available_models

    async def show_with_aliases() -> Any:
        listed = await show()
        for card in [card for card in listed.data if card.parent is None]:
            listed.data += [
                model_card(f"{card.id}:{alias}", like=card) for alias in client.rules.aliases()
            ]
        return listed

    models.show_available_models = show_with_aliases
