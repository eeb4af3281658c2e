"""Whole numbers in requests that no engine could be sent."""

from collections.abc import Iterator
from typing import Any

from rsalign.engines.vllm.openai_app import VLLMValidationError

_GREATEST = 2**63 - 1
# what stays in this process, or is checked where it is read
_SKIPPED = {"prompt", "messages", "tools", "documents", "chat_template_kwargs", "metadata"}


def refuse_great_numbers(request: Any) -> None:
    """Refuses a request with a whole number of more than 64 bits.

    vLLM takes it, and fails when it sends it to its engine, with status 500.

    Args:
        request: one of vLLM's request models.

    Raises:
        VLLMValidationError: naming the field.
    """
    for name in request.model_fields_set - _SKIPPED:
        for number in _whole_numbers(getattr(request, name, None)):
            if not -_GREATEST <= number <= _GREATEST:
                raise VLLMValidationError(
                    f"{name} has a whole number of more than 64 bits", parameter=name
                )


def _whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _whole_numbers(key)
            yield from _whole_numbers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _whole_numbers(each)
