"""vLLM's handlers of completions, which let strategies answer the requests that ask for one.

Parsing, templates, tools and the form of responses are vLLM's: a handler of ours reads what a
request asks for, sends it on with the request, and completes the response.
"""

import difflib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.text.messages import RENDERED
from rsalign.core.types import Message
from rsalign.engines.vllm.openai_app import (
    ErrorResponse,
    VLLMValidationError,
    continues_final_message,
    create_error_response,
)
from rsalign.serve.current import current, handled, handling
from rsalign.serve.event_stream import EventStream, count_drawn
from rsalign.serve.report import block
from rsalign.serve.request import Menu, Wanted
from rsalign.serve.whole_numbers import refuse_great_numbers
from rsalign.words.fields import BEST_OF, INERT, RESPONSES, refuse
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
"""Endpoints whose streams end with a report."""
_LENGTHS = {"/v1/responses": "max_output_tokens"}
"""What an endpoint calls the length of an answer, if not ``max_tokens``."""


class AlignedHandler:
    """What stands for one of vLLM's handlers; whatever else it has is that one's.

    Args:
        handler: vLLM's.
        menu: what requests may ask for.
        interval_seconds: longest silence of a stream.
    """

    def __init__(self, handler: Any, menu: Menu, interval_seconds: float) -> None:
        self._handler = handler
        self._menu = menu
        self._interval_seconds = interval_seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    async def create_completion(self, request: Any, raw_request: Any = None) -> Any:
        """As vLLM's."""
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
        """As vLLM's; the reward gets the messages, and not the policy's template."""
        return await self._create(
            "/v1/chat/completions",
            self._handler.create_chat_completion,
            request,
            raw_request,
            conversations=lambda: [request.messages],
        )

    async def create_batch_chat_completion(self, request: Any, raw_request: Any = None) -> Any:
        """As vLLM's; each conversation is answered by itself."""
        return await self._create(
            "/v1/chat/completions/batch",
            self._handler.create_batch_chat_completion,
            request,
            raw_request,
            conversations=lambda: request.messages,
            num_prompts=len(request.messages),
        )

    async def create_responses(self, request: Any, raw_request: Any = None) -> Any:
        """As vLLM's; its events are vLLM's own, without a report."""
        return await self._create(
            "/v1/responses", self._handler.create_responses, request, raw_request
        )

    async def create_messages(self, request: Any, raw_request: Any = None) -> Any:
        """As vLLM's, in Anthropic's form, which has no place for a report."""
        return await self._create(
            "/v1/messages",
            self._handler.create_messages,
            request,
            raw_request,
            conversations=lambda: [self._handler.to_chat_completion_request(request).messages],
        )

    async def count_tokens(self, request: Any, raw_request: Any = None) -> Any:
        """As vLLM's: a strategy changes nothing of the prompt."""
        request.model = served_model(self._handler.models, request.model)[0]
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
        refuse_great_numbers(request)
        extra = await _extra_fields(request, raw_request)
        try:
            refuse_misspelled(extra, request)
            wanted = self._wanted(request, extra)
            if wanted is not None:
                try:
                    refuse_fields(endpoint, request, extra)
                    wanted.conversations.extend(map(_messages, conversations()))
                    if endpoint == "/v1/responses":
                        refuse_continuation(request)
                except ConfigError as wrong:
                    raise ConfigError(f"{wrong}{self._menu.way_out}") from None
        except ConfigError as wrong:
            raise VLLMValidationError(clip(str(wrong)), parameter=STRATEGY) from None
        if wanted is None:
            with handling(None):
                return await create(request, raw_request)
        wanted = replace(wanted, num_prompts=num_prompts)
        length = _LENGTHS.get(endpoint, "max_tokens")
        if wanted.max_tokens is not None and not await _says(raw_request, length):
            setattr(request, length, wanted.max_tokens)  # and not vLLM's default
        if getattr(request, "vllm_xargs", None):
            request.vllm_xargs = others(request.vllm_xargs) or None
        wanted.ledger.watched = bool(getattr(request, "stream", False)) and endpoint in _REPORTING
        with handling(wanted):
            answer = await create(request, raw_request)
        if isinstance(answer, ErrorResponse):
            return answer
        if isinstance(answer, AsyncGenerator):
            if endpoint in _REPORTING:
                return await self._streamed(answer, wanted, raw_request)
            return handled(answer, wanted)
        if endpoint == "/v1/messages" or getattr(answer, "usage", None) is None:
            return answer
        usage = answer.usage.model_dump()
        count_drawn(usage, wanted)
        answer.usage = answer.usage.model_copy(update=usage)
        answer.rsalign = block(wanted)
        return answer

    async def _streamed(
        self, events: AsyncGenerator[str, None], wanted: Wanted, raw_request: Any
    ) -> AsyncGenerator[str, None]:
        stream = EventStream(events, wanted, self._interval_seconds)
        if raw_request is not None:
            closing(raw_request.scope).append(stream.close)
        try:
            await stream.open()
        except BaseException:
            await stream.close()
            raise
        return stream.sent()

    def _wanted(self, request: Any, extra: Mapping[str, Any]) -> Wanted | None:
        """What the request asks for in any of the three ways; its model is then the served one.

        Raises:
            ConfigError: if it contradicts itself, or asks for what there is not.
        """
        given = getattr(request, "vllm_xargs", None) or extra.get("vllm_xargs")
        asked = read_flat(given) or Specification()
        in_body = extra.get(STRATEGY)
        if in_body is not None:
            asked = asked.joined(read_object(in_body))
        request.model, alias = served_model(self._handler.models, request.model)
        if alias:
            asked = asked.joined(Specification(name=alias))
        if in_body is not None and not asked.name and self._menu.default is None:
            raise ConfigError(
                "the request names no strategy, and this server has no default: give 'strategy'"
                f"{suggest('', names())}"
            )
        return self._menu.order(asked)


class TokenizationHandler:
    """What stands for vLLM's handler of ``/tokenize`` and ``/detokenize``, which knows aliases.

    Args:
        handler: vLLM's.
    """

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    async def create_tokenize(self, request: Any, raw_request: Any) -> Any:
        """As vLLM's: a strategy changes nothing of the tokens."""
        request.model = served_model(self._handler.models, request.model)[0]
        return await self._handler.create_tokenize(request, raw_request)

    async def create_detokenize(self, request: Any, raw_request: Any) -> Any:
        """As vLLM's."""
        request.model = served_model(self._handler.models, request.model)[0]
        return await self._handler.create_detokenize(request, raw_request)


def refuse_aliases(handler: Any) -> None:
    """Makes one of vLLM's handlers say of ``NAME:STRATEGY`` why it does not know it."""
    check = handler._check_model

    async def check_model(request: Any) -> Any:
        model, alias = served_model(handler.models, request.model)
        if alias:
            return create_error_response(
                f"model={request.model!r} asks for the strategy {alias!r}, and this endpoint has "
                f"none: give model={model!r}",
                param="model",
            )
        return await check(request)

    handler._check_model = check_model


def tell_conversations(responses: Any) -> None:
    """Makes vLLM's handler of ``/v1/responses`` tell the reward what the conversation is.

    It is put together of the request, its instructions and earlier responses in there only.
    """
    render = responses._render_resolved_response_inputs

    async def render_and_tell(*args: Any, **kwargs: Any) -> Any:
        rendered = await render(*args, **kwargs)
        read = current()
        if read is not None and read[0] is not None and not isinstance(rendered, ErrorResponse):
            read[0].conversations.append(_messages(map(_as_mapping, rendered.messages)))
        return rendered

    responses._render_resolved_response_inputs = render_and_tell


def closing(scope: Any) -> list[Callable[[], Awaitable[None]]]:
    """What is to be called when the response to a request is over, however it ended."""
    calls: list[Callable[[], Awaitable[None]]] = scope.setdefault("state", {}).setdefault(
        "rsalign_closing", []
    )
    return calls


def served_model(models: Any, name: str | None) -> tuple[str | None, str]:
    """The model that a name stands for, and the strategy that it names beside it, if any.

    Args:
        models: vLLM's list of what is served.
        name: as a request gives it, such as ``NAME:best_of``.
    """
    model, colon, alias = (name or "").rpartition(":")
    served = models.is_base_model(model) or model in models.lora_requests
    return (model, alias) if colon and alias in names() and served else (name, "")


def refuse_misspelled(extra: Mapping[str, Any], request: Any) -> None:
    """Refuses fields that vLLM would pass over, although they ask for what there is here.

    Args:
        extra: fields of the body that vLLM's model of the request does not have.
        request: that model.

    Raises:
        ConfigError: naming the field.
    """
    for name in extra:
        if name != STRATEGY and difflib.get_close_matches(name, [STRATEGY], cutoff=0.8):
            raise ConfigError(f"the request has a field {name!r}: did you mean {STRATEGY!r}?")
    best_of = extra.get("best_of", getattr(request, "best_of", None))
    if best_of not in (None, 1, getattr(request, "n", None)):
        raise ConfigError(f"best_of={best_of!r} cannot be honoured: {BEST_OF}")


def refuse_continuation(request: Any) -> None:
    """Refuses a request to ``/v1/responses`` that continues an assistant's message.

    Raises:
        ConfigError: if it does.
    """
    if continues_final_message(request.input):
        raise ConfigError(f"input cannot be honoured: {RESPONSES['input'].note}")


def refuse_fields(endpoint: str, request: Any, extra: Mapping[str, Any]) -> None:
    """Refuses fields of a request that a strategy cannot honour, and what nobody knows.

    Args:
        endpoint: whose request it is.
        request: vLLM's model of it.
        extra: fields of the body that this model does not have.

    Raises:
        ConfigError: naming the field and the reason.
    """
    if getattr(request, "max_tokens", None) == 0:
        raise ConfigError(
            "max_tokens=0 asks for no answer: leave out the strategy, or allow a token"
        )
    known = type(request).model_fields
    refuse(
        endpoint,
        (
            (name, getattr(request, name), declared.get_default(call_default_factory=True))
            for name, declared in known.items()
            if name in request.model_fields_set and not declared.is_required()
        ),
    )
    ours = {STRATEGY, "vllm_xargs", "best_of", *INERT}
    refuse(endpoint, ((name, value, None) for name, value in extra.items() if name not in ours))


async def _extra_fields(request: Any, raw_request: Any) -> dict[str, Any]:
    """The fields of the body that vLLM's model of the request does not have."""
    if raw_request is None:
        return dict(request.model_extra or {})
    body = await raw_request.json()
    declared = type(request).model_fields
    return {name: value for name, value in body.items() if name not in declared}


def _as_mapping(message: Any) -> Mapping[str, Any]:
    """What vLLM renders of a message that it has made itself, of items with other fields, too."""
    dumped: Mapping[str, Any] = (
        message if isinstance(message, Mapping) else message.model_dump(exclude_none=True)
    )
    return {name: value for name, value in dumped.items() if name in RENDERED}


def _messages(conversation: Iterable[Any]) -> tuple[Message, ...]:
    return tuple(map(Message.of, conversation))


async def _says(raw_request: Any, name: str) -> bool:
    """Whether the body has this field; vLLM's model of a request does not tell a default."""
    return raw_request is None or name in await raw_request.json()
