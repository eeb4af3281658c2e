"""Refusals and failures, as the errors that vLLM's application answers in OpenAI's form."""

import difflib
import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from rsalign.core.errors import (
    ConfigError,
    PolicyError,
    RewardError,
    RsalignError,
    StrategyError,
    TextTooLongError,
)
from rsalign.engines.vllm.openai_app import (
    EngineDeadError,
    GracefulHTTPError,
    VLLMUnprocessableEntityError,
    VLLMValidationError,
    continues_final_message,
    create_error_response,
    exception_handler,
    http_exception_handler,
)
from rsalign.serve.admission import BusyError
from rsalign.strategies.cards import TriesExhaustedError
from rsalign.words.fields import BEST_OF, INERT, RESPONSES, refuse
from rsalign.words.messages import clip
from rsalign.words.read import STRATEGY

logger = logging.getLogger(__name__)

_LARGEST = 2**63 - 1
# what stays in this process, or is checked where it is read
_UNCHECKED = {"prompt", "messages", "tools", "documents", "chat_template_kwargs", "metadata"}
# what Python raises where vLLM's validators do not look at a type: that of structured_outputs calls
# `get` of whatever it is given
_TYPE_FAULTS = (AttributeError, LookupError, AssertionError, ArithmeticError, RecursionError)
_PATHS = ("/v1/completions", "/v1/chat/completions")


class RetryLaterError(GracefulHTTPError):  # type: ignore[misc]
    """Status 429, or 503 where the server is shutting down.

    `add_error_handlers` adds a header that says when to ask again.
    """

    def __init__(self, busy: BusyError) -> None:
        is_stopping = busy.reason == "stopping"
        super().__init__(
            str(busy),
            HTTPStatus.SERVICE_UNAVAILABLE if is_stopping else HTTPStatus.TOO_MANY_REQUESTS,
        )
        self.retry_after_seconds = busy.retry_after_seconds


def as_vllm_error(error: RsalignError) -> Exception:
    """The error to raise instead, whose status vLLM's handlers and streams know.

    400 for a wrong request, 422 if no draft reached the target, 429 if there is no room, 503 if the
    reward, the strategy or the engine failed. If the engine died it is vLLM's own error, upon which
    the server ends.
    """
    found: Exception
    if isinstance(error, BusyError):
        found = RetryLaterError(error)
    elif isinstance(error, ConfigError | TextTooLongError):
        found = VLLMValidationError(clip(str(error)), parameter=STRATEGY)
    elif isinstance(error, TriesExhaustedError):
        found = VLLMUnprocessableEntityError(str(error))
    elif isinstance(error, PolicyError) and isinstance(error.__cause__, EngineDeadError):
        found = error.__cause__
    elif isinstance(error, StrategyError):
        # its text may tell what was being answered
        kind = type(error.__cause__ or error).__name__
        found = GracefulHTTPError(f"the strategy failed ({kind})", HTTPStatus.SERVICE_UNAVAILABLE)
    else:
        what = "reward" if isinstance(error, RewardError) else "policy"
        found = GracefulHTTPError(f"{what}: {error}", HTTPStatus.SERVICE_UNAVAILABLE)
    return found


def add_error_handlers(app: FastAPI) -> None:
    """Makes an application answer the errors of this module; before it is started."""
    app.exception_handler(RetryLaterError)(_answer_busy)
    app.exception_handler(HTTPException)(http_exception_handler)  # vLLM: FastAPI's subclass only
    for kind in _TYPE_FAULTS:
        app.exception_handler(kind)(_answer_type_fault)


def refuse_large_numbers(request: Any) -> None:
    """Refuses a request with a whole number of more than 64 bits.

    vLLM accepts it, and fails with status 500 when it sends it to its engine.

    Args:
        request: one of vLLM's request models.

    Raises:
        VLLMValidationError: naming the field.
    """
    for name in request.model_fields_set - _UNCHECKED:
        for number in _find_whole_numbers(getattr(request, name, None)):
            if not -_LARGEST <= number <= _LARGEST:
                raise VLLMValidationError(
                    f"{name} has a whole number of more than 64 bits", parameter=name
                )


def refuse_misspelled(extra: Mapping[str, Any], request: Any) -> None:
    """Refuses fields that vLLM would ignore although they were meant for rsalign.

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
    """Refuses fields of a request that a strategy cannot honour, and unknown fields.

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


async def _answer_busy(_: Request, busy: RetryLaterError) -> JSONResponse:
    answer = create_error_response(busy)
    return JSONResponse(
        answer.model_dump(),
        status_code=answer.error.code,
        headers={"Retry-After": str(busy.retry_after_seconds)},
    )


async def _answer_type_fault(request: Request, fault: Exception) -> JSONResponse:
    """Status 400: until a request has been read, a fault of types is the request's."""
    answer: JSONResponse
    understood = hasattr(request.state, "request_metadata")
    if understood or not request.url.path.endswith(_PATHS):
        answer = await exception_handler(request, fault)
        return answer
    # its text may be the request's
    logger.info("a request that cannot be understood: %s", type(fault).__name__)
    logger.debug("it failed so", exc_info=fault)
    refused = create_error_response(
        f"the request cannot be understood ({type(fault).__name__}: {fault}): check the types of "
        "its values"
    )
    return JSONResponse(refused.model_dump(), status_code=refused.error.code)


def _find_whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _find_whole_numbers(key)
            yield from _find_whole_numbers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _find_whole_numbers(each)
