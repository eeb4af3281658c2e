"""vLLM's handlers of completions, which let strategies answer the requests that ask for one.

Parsing, templates, tools and the form of responses are vLLM's: a handler of ours reads what a
request asks for, sends it on with the request, and completes the response.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from rsalign.aligner.request_strategy import NO_STRATEGY, STRATEGY
from rsalign.aligner.settings import suggest
from rsalign.errors import ConfigError
from rsalign.serve.event_stream import EventStream, count_drawn
from rsalign.serve.report import block
from rsalign.serve.request import (
    Asked,
    Menu,
    Wanted,
    asked_by,
    asked_in,
    names,
    others,
)
from rsalign.serve.vllm_internals import ErrorResponse, VLLMValidationError
from rsalign.serve.whole_numbers import refuse_great_numbers
from rsalign.types import Message


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
            self._handler.create_completion,
            request,
            raw_request,
            num_prompts=len(prompt) if many else 1,
        )

    async def create_chat_completion(self, request: Any, raw_request: Any = None) -> Any:
        """As vLLM's; the reward gets the messages, and not the policy's template."""
        return await self._create(
            self._handler.create_chat_completion, request, raw_request, messages=request.messages
        )

    async def _create(
        self,
        create: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
        raw_request: Any,
        *,
        messages: Iterable[Mapping[str, Any]] | None = None,
        num_prompts: int = 1,
    ) -> Any:
        refuse_great_numbers(request)
        try:
            wanted = self._wanted(request)
            if wanted is None:
                if self._menu.default is not None:  # which the client would else give it
                    request.vllm_xargs = (request.vllm_xargs or {}) | {STRATEGY: NO_STRATEGY}
                return await create(request, raw_request)
            if messages is not None:
                wanted = replace(wanted, messages=tuple(map(Message.of, messages)))
            if request.use_beam_search:
                raise ConfigError(
                    f"use_beam_search: a strategy and beam search exclude each other; for the "
                    f"latter give rsalign={NO_STRATEGY!r}"
                )
        except ConfigError as wrong:
            raise VLLMValidationError(str(wrong), parameter=STRATEGY) from None
        wanted = replace(wanted, num_prompts=num_prompts)
        wanted.ledger.watched = bool(request.stream)
        if wanted.max_tokens is not None and not await _says(raw_request, "max_tokens"):
            request.max_tokens = wanted.max_tokens  # and not vLLM's default
        request.vllm_xargs = others(request.vllm_xargs or {}) | {STRATEGY: wanted}
        answer = await create(request, raw_request)
        if isinstance(answer, ErrorResponse):
            return answer
        if isinstance(answer, AsyncGenerator):
            return await self._streamed(answer, wanted, raw_request)
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

    def _wanted(self, request: Any) -> Wanted | None:
        """What the request asks for in any of the three ways; its model is then the served one.

        Raises:
            ConfigError: if it contradicts itself, or asks for what there is not.
        """
        asked = asked_in(request.vllm_xargs)
        in_body = (request.model_extra or {}).get(STRATEGY)
        if in_body is not None:
            asked = _same(asked, asked_by(in_body))
        model, colon, alias = (request.model or "").rpartition(":")
        models = self._handler.models
        served = models.is_base_model(model) or model in models.lora_requests
        if colon and alias in names() and served:
            request.model = model
            asked = _same(asked, Asked(alias, {}))
        if in_body is not None and asked and not asked.name and self._menu.default is None:
            raise ConfigError(
                "the request names no strategy, and this server has no default: give 'strategy'"
                f"{suggest('', names())}"
            )
        return self._menu.order(asked)


def closing(scope: Any) -> list[Callable[[], Awaitable[None]]]:
    """What is to be called when the response to a request is over, however it ended."""
    calls: list[Callable[[], Awaitable[None]]] = scope.setdefault("state", {}).setdefault(
        "rsalign_closing", []
    )
    return calls


async def _says(raw_request: Any, name: str) -> bool:
    """Whether the body has this field; vLLM's model of a request does not tell a default."""
    return raw_request is None or name in await raw_request.json()


def _same(one: Asked | None, other: Asked) -> Asked:
    """Both together.

    Raises:
        ConfigError: if they differ.
    """
    if one is None:
        return other
    if one.name is not None and other.name is not None and one.name != other.name:
        raise ConfigError(
            f"the request asks for two strategies, {one.name!r} and {other.name!r}: name one"
        )
    for key in one.settings.keys() & other.settings.keys():
        if one.settings[key] != other.settings[key]:
            raise ConfigError(
                f"the request gives {key} twice, as {one.settings[key]!r} and as "
                f"{other.settings[key]!r}: give it once"
            )
    return Asked(one.name or other.name, {**one.settings, **other.settings})
