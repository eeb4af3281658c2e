"""Constraint: which responses may be the answer at all."""

from typing import Protocol, runtime_checkable

from rsalign.core.types import Prompt, Response


@runtime_checkable
class Constraint(Protocol):
    """A fixed rule that says which responses may be the answer, complete or partial.

    Of a complete response it says whether it is allowed. Of an open one (`Response.complete` is
    false) it says whether it can still *become* allowed; a rule that cannot tell answers True.

    Laws: if a complete response is allowed, then so is each of its prefixes as an open response,
    the empty one included; the same input has the same value. It may have a ``fingerprint`` like a
    `Reward`. `rsalign.testing.check_constraint` checks the laws.

    What it does not allow is excluded: it has probability 0 in the law of every strategy, which is
    the law among what is allowed. A strategy that finds nothing allowed abstains
    (`Stop.ABSTAINED`). `rsalign.Constrained` joins a constraint to a reward.

    Example:
        >>> import asyncio
        >>> from rsalign import Prompt, Response, Stop
        >>> class AtMostTenWords:
        ...     async def allows(self, prompt, response):
        ...         return len(response.text.split()) <= 10
        >>> isinstance(AtMostTenWords(), Constraint)
        True
        >>> prompt, response = Prompt((), (1,)), Response((5, 0), "Yes.", Stop.EOS)
        >>> asyncio.run(AtMostTenWords().allows(prompt, response))
        True
    """

    async def allows(self, prompt: Prompt, response: Response) -> bool:
        """Whether a complete response is allowed, or an open one can still become allowed.

        Raises:
            RewardError: if the constraint fails.
        """
        ...
