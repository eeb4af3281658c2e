"""vLLM's exceptions as exceptions of rsalign."""

from rsalign.core.errors import ConfigError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error, error_message


def refusal_types() -> tuple[type[Exception], ...]:
    """Returns the types that vLLM raises when it refuses a request or a setting.

    Only some of them are subclasses of `ValueError`.
    """
    from vllm import exceptions

    return ValueError, getattr(exceptions, "VLLMClientError", ValueError)


def request_error(failure: BaseException) -> RsalignError:
    """Returns the error of a request that an engine could not accept.

    The engine still runs and its other requests go on.

    Args:
        failure: what vLLM raised.

    Returns:
        `ConfigError` where vLLM refused the request, otherwise `PolicyError`.
    """
    if isinstance(failure, (*refusal_types(), TypeError, OverflowError)):
        return ConfigError(f"vLLM refuses this request: {error_message(failure)}")
    return PolicyError(
        f"vLLM failed to take this request ({describe_error(failure)}); its engine runs on, and "
        "the cause has the place"
    )
