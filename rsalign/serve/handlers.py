"""Handlers of HTTP requests in front of vLLM's own.

vLLM's handlers parse requests, render templates and tools, and make responses. A handler of ours
reads which strategy a request asks for, passes the request on to vLLM's handler with that in a
context variable (`rsalign.serve.served_request`), and completes the response.
"""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from rsalign.core.capabilities import parallel_draws
from rsalign.core.errors import ConfigError
from rsalign.core.text.messages import RENDERED
from rsalign.core.types import Message
from rsalign.engines.vllm.openai_app import (
    ErrorResponse,
    VLLMValidationError,
    create_error_response,
)
from rsalign.serve.admission import BusyError
from rsalign.serve.client import AlignedClient
from rsalign.serve.errors import (
    as_vllm_error,
    refuse_continuation,
    refuse_fields,
    refuse_large_numbers,
    refuse_misspelled,
)
from rsalign.serve.responses import EventStream, count_drawn, make_block
from rsalign.serve.rules import StrategyRequest
from rsalign.serve.served_request import (
    ServedRequest,
    current_request,
    handle_as,
    handle_events_as,
)
from rsalign.words.messages import clip, suggest
from rsalign.words.read import (
    STRATEGY,
    Specification,
    names,
    read_flat,
    read_object,
)
from rsalign.words.request import others

_REPORTING = ("/v1/completions", "/v1/chat/completions")
"""Endpoints whose responses and streams have an ``rsalign`` block."""
_LENGTHS = {"/v1/responses": "max_output_tokens"}
"""The endpoints' names for the length of an answer, if not ``max_tokens``."""


class AlignedHandler:
    """Replaces one of vLLM's handlers; attributes that it does not have are that handler's.

    Args:
        handler: vLLM's.
        client: answers; it has the rules, and makes room for requests.
        interval_seconds: longest silence of a stream.
    """

    def __init__(self, handler: Any, client: AlignedClient, interval_seconds: float) -> None:
        self._handler = handler
        self._client = client
        self._rules = client.rules
        self._interval_seconds = interval_seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    async def create_completion(self, request: Any, raw_request: Any = None) -> Any:
        """Answers a request to ``/v1/completions``."""
        prompt = request.prompt
        many = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
        return await self._create(
            "/v1/completions",
            self._handler.create_completion,
            request,
            raw_request,
            num_prompts=len(prompt) if many else 1,
        )

    async def create_chat_completion(self, request: Any, raw_request: Any = None) -> Any:
        """Answers ``/v1/chat/completions``; the reward gets messages, and no rendered prompt."""
        return await self._create(
            "/v1/chat/completions",
            self._handler.create_chat_completion,
            request,
            raw_request,
            conversations=lambda: [request.messages],
        )

    async def create_batch_chat_completion(self, request: Any, raw_request: Any = None) -> Any:
        """Answers ``/v1/chat/completions/batch``, each conversation by itself."""
        return await self._create(
            "/v1/chat/completions/batch",
            self._handler.create_batch_chat_completion,
            request,
            raw_request,
            conversations=lambda: request.messages,
            num_prompts=len(request.messages),
        )

    async def create_responses(self, request: Any, raw_request: Any = None) -> Any:
        """Answers ``/v1/responses``, whose events have no ``rsalign`` block."""
        return await self._create(
            "/v1/responses", self._handler.create_responses, request, raw_request
        )

    async def create_messages(self, request: Any, raw_request: Any = None) -> Any:
        """Answers ``/v1/messages``; Anthropic's form has no place for an ``rsalign`` block."""
        return await self._create(
            "/v1/messages",
            self._handler.create_messages,
            request,
            raw_request,
            conversations=lambda: [self._handler.to_chat_completion_request(request).messages],
        )

    async def count_tokens(self, request: Any, raw_request: Any = None) -> Any:
        """Counts the tokens of a prompt, which no strategy changes."""
        request.model = read_model(self._handler.models, request.model)[0]
        return await self._handler.count_tokens(request, raw_request)

    async def _create(
        self,
        endpoint: str,
        create: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
        raw_request: Any,
        *,
        conversations: Callable[[], Iterable[Iterable[Any]]] = list,
        num_prompts: int = 1,
    ) -> Any:
        extra = await _read_extra_fields(request, raw_request)
        room = contextlib.AsyncExitStack()
        with self._counting_refusals():
            self._client.admission.check_open()
            refuse_large_numbers(request)
            refuse_misspelled(extra, request)
            asked = self._read_asked(request, extra)
            if asked is not None:
                served = self._begin(endpoint, asked, request, extra, conversations, num_prompts)
                answers = num_prompts * (getattr(request, "n", None) or 1)
                draws = answers * parallel_draws(asked.strategy)
                await room.enter_async_context(
                    self._client.admission.admit(answers=answers, draws=draws)
                )
                served.admitted = True
        if asked is None:
            with handle_as(None):
                return await create(request, raw_request)
        try:
            response = await self._answer(endpoint, create, request, raw_request, served)
        except BaseException:
            await room.aclose()
            raise
        if not isinstance(response, AsyncGenerator):
            await room.aclose()
            return response
        if raw_request is None:
            return _close_after(response, room)
        list_closers(raw_request.scope).append(room.aclose)  # however the response ends
        return response

    async def _answer(
        self,
        endpoint: str,
        create: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
        raw_request: Any,
        served: ServedRequest,
    ) -> Any:
        asked = served.asked
        length = _LENGTHS.get(endpoint, "max_tokens")
        if asked.max_tokens is not None and not await _has_field(raw_request, length):
            setattr(request, length, asked.max_tokens)  # and not vLLM's default
        if getattr(request, "vllm_xargs", None):
            request.vllm_xargs = others(request.vllm_xargs) or None
        reports = endpoint in _REPORTING
        served.reports_failure = bool(getattr(request, "stream", False)) and reports
        with handle_as(served):
            response = await create(request, raw_request)
        if isinstance(response, ErrorResponse):
            return response
        if isinstance(response, AsyncGenerator):
            if reports:
                return await self._open_stream(response, served, raw_request)
            return handle_events_as(response, served)
        if endpoint == "/v1/messages" or getattr(response, "usage", None) is None:
            return response
        usage = response.usage.model_dump()
        count_drawn(usage, served)
        response.usage = response.usage.model_copy(update=usage)
        response.rsalign = make_block(served)
        return response

    @contextlib.contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        """Counts what is refused while the block runs, and raises it as vLLM knows it."""
        try:
            yield
        except ConfigError as wrong:
            self._client.observer.count_refusal("invalid")
            raise VLLMValidationError(clip(str(wrong)), parameter=STRATEGY) from None
        except VLLMValidationError:
            self._client.observer.count_refusal("invalid")
            raise
        except BusyError as busy:
            self._client.observer.count_refusal(busy.reason)
            raise as_vllm_error(busy) from None

    def _begin(
        self,
        endpoint: str,
        asked: StrategyRequest,
        request: Any,
        extra: Mapping[str, Any],
        conversations: Callable[[], Iterable[Iterable[Any]]],
        num_prompts: int,
    ) -> ServedRequest:
        """The request with its conversations; fields that no strategy can honour are refused."""
        try:
            refuse_fields(endpoint, request, extra)
            served = ServedRequest(
                asked=asked,
                num_prompts=num_prompts,
                conversations=[_read_messages(each) for each in conversations()],
            )
            if endpoint == "/v1/responses":
                refuse_continuation(request)
        except ConfigError as wrong:
            raise ConfigError(f"{wrong}{self._rules.hint}") from None
        return served

    async def _open_stream(
        self, events: AsyncGenerator[str, None], served: ServedRequest, raw_request: Any
    ) -> AsyncGenerator[str, None]:
        stream = EventStream(events, served, self._interval_seconds)
        if raw_request is not None:
            list_closers(raw_request.scope).append(stream.close)
        try:
            await stream.open()
        except BaseException:
            await stream.close()
            raise
        return stream.read()

    def _read_asked(self, request: Any, extra: Mapping[str, Any]) -> StrategyRequest | None:
        """What the request asks for in any of the three ways; sets its model to the served one.

        Raises:
            ConfigError: if it contradicts itself, or asks for what there is not.
        """
        given = getattr(request, "vllm_xargs", None) or extra.get("vllm_xargs")
        asked = read_flat(given) or Specification()
        in_body = extra.get(STRATEGY)
        if in_body is not None:
            asked = asked.joined(read_object(in_body))
        request.model, alias = read_model(self._handler.models, request.model)
        if alias:
            asked = asked.joined(Specification(name=alias))
        if in_body is not None and not asked.name and self._rules.default is None:
            raise ConfigError(
                "the request names no strategy, and this server has no default: give 'strategy'"
                f"{suggest('', names())}"
            )
        return self._rules.read(asked)


async def _close_after(
    events: AsyncGenerator[Any, None], room: contextlib.AsyncExitStack
) -> AsyncGenerator[Any, None]:
    async with room, contextlib.aclosing(events):
        async for event in events:
            yield event


class TokenizationHandler:
    """Replaces vLLM's handler of ``/tokenize`` and ``/detokenize``; it knows ``NAME:STRATEGY``.

    Args:
        handler: vLLM's.
    """

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    async def create_tokenize(self, request: Any, raw_request: Any) -> Any:
        """Answers ``/tokenize``: no strategy changes the tokens."""
        request.model = read_model(self._handler.models, request.model)[0]
        return await self._handler.create_tokenize(request, raw_request)

    async def create_detokenize(self, request: Any, raw_request: Any) -> Any:
        """Answers ``/detokenize``."""
        request.model = read_model(self._handler.models, request.model)[0]
        return await self._handler.create_detokenize(request, raw_request)


def refuse_aliases(handler: Any) -> None:
    """Makes one of vLLM's handlers refuse a model ``NAME:STRATEGY`` with the reason."""
    check = handler._check_model

    async def check_model(request: Any) -> Any:
        model, alias = read_model(handler.models, request.model)
        if alias:
            return create_error_response(
                f"model={request.model!r} asks for the strategy {alias!r}, and this endpoint has "
                f"none: give model={model!r}",
                param="model",
            )
        return await check(request)

    handler._check_model = check_model


def record_conversations(responses: Any) -> None:
    """Makes vLLM's handler of ``/v1/responses`` record the conversation for the reward.

    Only that handler knows it: it joins the request, its instructions and earlier responses.
    """
    render = responses._render_resolved_response_inputs

    async def render_and_record(*args: Any, **kwargs: Any) -> Any:
        rendered = await render(*args, **kwargs)
        served = current_request()
        if served is not None and not isinstance(rendered, ErrorResponse):
            served.conversations.append(_read_messages(map(_as_mapping, rendered.messages)))
        return rendered

    responses._render_resolved_response_inputs = render_and_record


def list_closers(scope: Any) -> list[Callable[[], Awaitable[None]]]:
    """The functions to call when the response to a request is over, however it ended."""
    closers: list[Callable[[], Awaitable[None]]] = scope.setdefault("state", {}).setdefault(
        "rsalign_closing", []
    )
    return closers


def read_model(models: Any, name: str | None) -> tuple[str | None, str]:
    """Splits a model name ``NAME:STRATEGY`` into the served model and the strategy, if it has one.

    Args:
        models: vLLM's list of what is served.
        name: as a request gives it, such as ``NAME:best_of``.
    """
    model, colon, alias = (name or "").rpartition(":")
    served = models.is_base_model(model) or model in models.lora_requests
    return (model, alias) if colon and alias in names() and served else (name, "")


async def _read_extra_fields(request: Any, raw_request: Any) -> dict[str, Any]:
    """The fields of the body that vLLM's model of the request does not have."""
    if raw_request is None:
        return dict(request.model_extra or {})
    body = await raw_request.json()
    declared = type(request).model_fields
    return {name: value for name, value in body.items() if name not in declared}


def _as_mapping(message: Any) -> Mapping[str, Any]:
    """The fields of a message that vLLM renders; vLLM's own messages have others, too."""
    dumped: Mapping[str, Any] = (
        message if isinstance(message, Mapping) else message.model_dump(exclude_none=True)
    )
    return {name: value for name, value in dumped.items() if name in RENDERED}


def _read_messages(conversation: Iterable[Any]) -> tuple[Message, ...]:
    return tuple(map(Message.of, conversation))


async def _has_field(raw_request: Any, name: str) -> bool:
    """Whether the body has this field; vLLM's model of the request does not tell from a default."""
    return raw_request is None or name in await raw_request.json()
