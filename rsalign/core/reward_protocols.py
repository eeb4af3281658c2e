"""The interfaces of rewards: one value for a response, one for each step, or a comparison.

`rsalign.core.protocols` has those of policies and strategies, and all of these names too.
"""

from typing import Protocol, runtime_checkable

from rsalign.core.types import Prompt, Response


@runtime_checkable
class Reward(Protocol):
    """A fixed function of a prompt and a response, complete or partial.

    Laws: values are finite; the same input has the same value, alone or among other requests
    (within a tolerance that the class states). `response.stop` says whether the text is finished.

    A reward may have an attribute or property ``fingerprint``: a string that identifies it and
    changes whenever its values change, such as ``"length, 2 points a word"``. A journal replays
    values only for the same fingerprint. Without this attribute, the fingerprint is computed from
    the class (code and constants) and the attributes; a journal refuses a reward whose attributes
    cannot be compared (`rsalign.core.fingerprint`). The same holds for `StepReward`,
    `PairwiseReward` and functions that are used as rewards.

    Example:
        >>> import asyncio
        >>> from rsalign import Stop
        >>> class Length:
        ...     async def score(self, prompt, response):
        ...         return float(len(response.text))
        >>> isinstance(Length(), Reward)
        True
        >>> prompt, response = Prompt((), (1,)), Response((5, 0), "Yes.", Stop.EOS)
        >>> asyncio.run(Length().score(prompt, response))
        4.0
    """

    async def score(self, prompt: Prompt, response: Response) -> float:
        """Scores a response; higher is better. May return a `Scored`, which tells more.

        A reward that may exclude responses declares it (`rsalign.core.capabilities.excludes`).

        Raises:
            RewardError: if the reward fails.
        """
        ...


@runtime_checkable
class StepReward(Protocol):
    """A process reward: one value per step. It may have a ``fingerprint`` like a `Reward`.

    Example:
        >>> class Short:  # the shorter a step, the better
        ...     async def score_steps(
        ...         self, prompt: Prompt, response: Response, ends: tuple[int, ...]
        ...     ) -> tuple[float, ...]:
        ...         return tuple(float(a - b) for a, b in zip((0, *ends), ends))
        >>> isinstance(Short(), StepReward)
        True
    """

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """Scores each step, ``(steps,)``; `ends` are offsets of steps in ``response.tokens``."""
        ...


@runtime_checkable
class PairwiseReward(Protocol):
    """A fixed function of a prompt and two responses, for judges that only compare.

    Laws: values are between 0 and 1; ``prefer(x, a, b) + prefer(x, b, a) == 1`` up to rounding. It
    may have a ``fingerprint`` like a `Reward`.

    Example:
        >>> class Longer:
        ...     async def prefer(self, prompt: Prompt, one: Response, other: Response) -> float:
        ...         a, b = len(one.text), len(other.text)
        ...         return 0.5 if a == b else float(a > b)
        >>> isinstance(Longer(), PairwiseReward)
        True
    """

    async def prefer(self, prompt: Prompt, one: Response, other: Response) -> float:
        """Returns the probability that `one` is better than `other`; 0.5 is a tie.

        Raises:
            RewardError: if the reward fails.
        """
        ...
