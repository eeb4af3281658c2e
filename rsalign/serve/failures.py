"""Our errors as those that vLLM's application answers in OpenAI's form."""

from http import HTTPStatus

from rsalign.core.errors import ConfigError, PolicyError, RewardError, RsalignError, StrategyError
from rsalign.engines.vllm.openai_app import (
    EngineDeadError,
    GracefulHTTPError,
    VLLMUnprocessableEntityError,
    VLLMValidationError,
)
from rsalign.serve.limits import BusyError
from rsalign.strategies.cards import TriesExhaustedError
from rsalign.words.messages import clip
from rsalign.words.read import STRATEGY


class TooManyRequestsError(GracefulHTTPError):  # type: ignore[misc]
    """429; the application adds when to ask again."""

    def __init__(self, busy: BusyError) -> None:
        super().__init__(str(busy), HTTPStatus.TOO_MANY_REQUESTS)
        self.retry_after_seconds = busy.retry_after_seconds


def as_vllm(error: RsalignError) -> Exception:
    """What to raise instead, so that vLLM's handlers and streams know its status.

    400 for what a request got wrong, 422 for a target that no draft reached, 429 for no room, 503
    for a reward, a strategy or an engine that failed, and vLLM's own for an engine that died, upon
    which its server ends.
    """
    found: Exception
    if isinstance(error, BusyError):
        found = TooManyRequestsError(error)
    elif isinstance(error, ConfigError):
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
