"""The error tree. Each class says who is at fault and whether trying again can help.

    RsalignError
    ├── ConfigError (ValueError)   the caller's settings or input; nothing was started
    ├── PolicyError                the policy failed on one prompt
    │   └── EngineError            its engine died, was closed or cannot be reached: so will others
    ├── RewardError                the reward failed on one response, which is attached
    ├── StrategyError              the strategy, or a part of it, failed on one prompt
    ├── TriesExhaustedError         no draft of a segment was accepted (`rsalign.strategies.cards`)
    └── InstallError (ImportError) a package this needs is missing or of the wrong version

A message says what was wrong, the value, what is allowed and what to do next.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsalign.aligner.outputs import AlignedOutput
    from rsalign.core.types import Prompt, Response


class RsalignError(Exception):
    """Every error this package raises on purpose.

    Attributes:
        finished: results that were complete when this error ended a batch, in order of completion.
    """

    finished: "Sequence[AlignedOutput]" = ()


class ConfigError(RsalignError, ValueError):
    """A setting, prompt or combination that cannot work; raised before any work is done."""


class InstallError(RsalignError, ImportError):
    """A needed package is missing, or its version is not supported."""


class PolicyError(RsalignError):
    """A policy failed while it worked on a prompt; what else it raised is the cause.

    Attributes:
        prompt: the prompt it was working on, if one was.
    """

    def __init__(self, message: str, *, prompt: "Prompt | None" = None) -> None:
        super().__init__(message)
        self.prompt = prompt


class EngineError(PolicyError):
    """The engine behind a policy died, was closed or cannot be reached.

    Other prompts will fail alike until another engine is started or the server answers again.
    """


class StrategyError(RsalignError):
    """A strategy failed on a prompt, or a function that it calls (an extractor, a utility, ...).

    What was raised is the cause.

    Attributes:
        prompt: the prompt that was answered.
    """

    def __init__(self, message: str, *, prompt: "Prompt | None" = None) -> None:
        super().__init__(message)
        self.prompt = prompt


class RewardError(RsalignError):
    """A reward could not be had for a response, or is not a finite number.

    Attributes:
        prompt: the prompt that was answered.
        response: the response that could not be scored.
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
