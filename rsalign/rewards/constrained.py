"""Constrained: a reward, or none, together with a constraint."""

from dataclasses import dataclass, replace
from typing import ClassVar

from rsalign.core.checks import check_settings, part, quote
from rsalign.core.constraint import Constraint
from rsalign.core.errors import RewardError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Reward, Scored
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_REWARD, Composite, ask

A_CONSTRAINT = part("a constraint: an object with `async allows(prompt, response) -> bool`")
"""How error messages name a setting that must be a `Constraint`."""


@dataclass(frozen=True, slots=True)
class Constrained(Composite):
    """The reward of what a constraint allows; everything else is excluded.

    Excluded is not a low reward: every strategy gives it probability 0, and a strategy that finds
    nothing allowed abstains (`rsalign.Constraint`). The reward is not asked about it. For several
    constraints, nest: ``Constrained(Constrained(reward, one), other)``.

    An open response of a reasoning model that has no answer yet is shown to the constraint with an
    empty text, since the thought is not a part of the answer.

    Attributes:
        reward: scores what is allowed. None: it has the reward 0, so that the constraint alone
            decides (strategies then choose the first that is allowed, or vote).
        constraint: says what is allowed.

    Raises:
        ConfigError: if one of them is something else.
        RewardError: in `score`, if the constraint failed or did not return True or False.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> from rsalign.rewards import Without
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> polite = Constrained(length, Without(["damn"]))
        >>> asyncio.run(polite.score(prompt, Response((2,), "Damn!", Stop.EOS))).excluded
        True
        >>> float(asyncio.run(polite.score(prompt, Response((2,), "Hello", Stop.EOS))))
        5.0
    """

    excludes: ClassVar[bool] = True

    reward: Reward | None
    constraint: Constraint

    def __post_init__(self) -> None:
        check_settings(self, reward=A_REWARD, constraint=A_CONSTRAINT)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward's value, or a `Scored` that says that the response is excluded."""
        if not await self._allows(prompt, response):
            return Scored(0.0, excluded=True)
        return Scored(0.0) if self.reward is None else await ask(self.reward, prompt, response)

    async def _allows(self, prompt: Prompt, response: Response) -> bool:
        if not response.complete and response.text == response.reasoning:
            response = replace(response, text="")

        def failed(failure: BaseException) -> RewardError:
            return RewardError(
                f"the constraint {type(self.constraint).__name__} raised "
                f"{describe_error(failure)} on {quote(response.text)}: fix it, or catch the error "
                "and return True or False",
                prompt=prompt,
                response=response,
            )

        with errors_as(failed):
            allowed = await self.constraint.allows(prompt, response)
        if not isinstance(allowed, bool):
            raise RewardError(
                f"the constraint {type(self.constraint).__name__} returned {quote(allowed)} for "
                f"{quote(response.text)}, but must return True or False: fix it",
                prompt=prompt,
                response=response,
            )
        return allowed
