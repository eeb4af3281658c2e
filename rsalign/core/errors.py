"""The errors of the package. The class tells which part failed, and so what the caller can do.

    RsalignError
    ├── ConfigError (ValueError)   wrong settings or input; no work was started
    ├── PolicyError                the policy failed on one prompt
    │   └── EngineError            the policy's engine is gone; other prompts will fail, too
    ├── RewardError                the reward failed on one response, which is attached
    │   └── TextTooLongError       prompt and response are longer than the reward model's context
    ├── StrategyError              the strategy, or a function it was given, failed on one prompt
    ├── TriesExhaustedError        no draft of a segment was accepted (`rsalign.strategies.cards`)
    └── InstallError (ImportError) a required package is missing or of an unsupported version

A message names what is wrong, the value, what is allowed, and what to do next.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsalign.aligner.outputs import AlignedOutput
    from rsalign.core.types import Prompt, Response


class RsalignError(Exception):
    """Base class of all errors that this package raises on purpose.

    Attributes:
        finished: results of a batch that were complete when this error ended it, in order of
            completion.

    Example:
        >>> from rsalign import BestOf
        >>> try:
        ...     BestOf(n=0)
        ... except RsalignError as error:
        ...     print(type(error).__name__, error)
        ConfigError BestOf(n=0): give a whole number of at least 1
    """

    finished: "Sequence[AlignedOutput]" = ()


class ConfigError(RsalignError, ValueError):
    """A setting, a prompt or a combination cannot work. Raised before any work is done.

    Example:
        >>> from rsalign import BestOf
        >>> BestOf(n=2.5)
        Traceback (most recent call last):
        rsalign.core.errors.ConfigError: BestOf(n=2.5): give a whole number of at least 1
    """


class InstallError(RsalignError, ImportError):
    """A required package is missing, or its version is not supported.

    Example:
        >>> isinstance(InstallError("vLLM is not installed"), ImportError)
        True
    """


class PolicyError(RsalignError):
    """A policy failed on a prompt. The original error is the cause (``__cause__``).

    Attributes:
        prompt: the prompt; None if the failure belongs to no prompt.

    Example:
        >>> PolicyError("the policy failed").prompt is None
        True
    """

    def __init__(self, message: str, *, prompt: "Prompt | None" = None) -> None:
        super().__init__(message)
        self.prompt = prompt


class EngineError(PolicyError):
    """The engine of a policy died, was closed or cannot be reached.

    All prompts will fail until a new engine is started or the server answers again.

    Example:
        >>> isinstance(EngineError("the engine is closed"), PolicyError)
        True
    """


class StrategyError(RsalignError):
    """A strategy, or a function that it calls (extractor, utility, ...), failed on a prompt.

    The original error is the cause (``__cause__``).

    Attributes:
        prompt: the prompt that was answered.

    Example:
        >>> StrategyError("the extractor failed").prompt is None
        True
    """

    def __init__(self, message: str, *, prompt: "Prompt | None" = None) -> None:
        super().__init__(message)
        self.prompt = prompt


class RewardError(RsalignError):
    """A reward failed on a response, or returned a number that is not finite.

    Attributes:
        prompt: the prompt that was answered.
        response: the response that could not be scored.

    Example:
        >>> RewardError("the judge does not answer").response is None
        True
    """

    def __init__(
        self,
        message: str,
        *,
        prompt: "Prompt | None" = None,
        response: "Response | None" = None,
    ) -> None:
        super().__init__(message)
        self.prompt = prompt
        self.response = response


class TextTooLongError(RewardError):
    """Prompt and response are longer than what the reward model can read.

    Example:
        >>> isinstance(TextTooLongError("5000 tokens, but the context has 4096"), RewardError)
        True
    """
