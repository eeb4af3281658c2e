"""vLLM's exceptions as exceptions of rsalign."""

from rsalign.core.errors import ConfigError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error, error_message
from rsalign.engines.vllm.release import SINCE_0_33


def refusal_types() -> tuple[type[Exception], ...]:
    """Returns the types that vLLM raises when it refuses a request or a setting.

    Only some of them are subclasses of `ValueError`.
    """
    from vllm import exceptions

    return ValueError, getattr(exceptions, "VLLMClientError", ValueError)


def is_retryable(failure: BaseException) -> bool:
    """Tells whether vLLM says that a request may be sent again, as an engine does while paused.

    Before 0.33 a paused engine lets requests wait.
    """
    if SINCE_0_33:
        from vllm.exceptions import RetryableRequestError

        return isinstance(failure, RetryableRequestError)
    return False


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
    if is_retryable(failure):
        return PolicyError(
            f"vLLM takes no request at present ({describe_error(failure)}): a paused engine "
            "refuses requests until it is resumed; send this one again then"
        )
    return PolicyError(
        f"vLLM failed to take this request ({describe_error(failure)}); its engine runs on, and "
        "the cause has the place"
    )
