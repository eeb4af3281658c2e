"""CostBudget: a constraint that gives each answer a budget of some cost, such as harm."""

from dataclasses import dataclass

from rsalign.core.checks import REWARD, check_settings
from rsalign.core.protocols import Reward
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_REWARD, Composite, ask


@dataclass(frozen=True, slots=True)
class CostBudget(Composite):
    """Allows a response as long as its cost so far is within a budget.

    An answer over the budget is excluded, whatever its reward, and so is each prefix of it from
    where the budget is spent: strategies that look at prefixes (`Particles`, `Beam`, `Cards`) then
    draw no more there. This is almost-surely safe decoding (arXiv 2502.01208), whose state is the
    budget that is left.

    Attributes:
        cost: a reward, whose value of a response is what it has cost up to its end. It may not
            fall as a response grows: a sum or a maximum over steps (`rsalign.Steps`) does not, if
            no step has a negative cost. A cost that falls makes prefixes excluded that could still
            become allowed.
        limit: greatest cost of an answer, in the units of `cost`.

    Raises:
        ConfigError: if `cost` is no reward, or `limit` no finite number.
        RewardError: in `allows`, if the cost failed.

    Example:
        >>> import asyncio
        >>> from rsalign import Constrained, FunctionReward, Prompt, Response, Stop
        >>> shouts = FunctionReward(lambda question, answer: answer.count("!"))
        >>> calm = Constrained(None, CostBudget(shouts, limit=2))
        >>> asyncio.run(calm.score(Prompt((), (1,)), Response((2,), "No!!!", Stop.EOS))).excluded
        True
    """

    cost: Reward
    limit: float

    def __post_init__(self) -> None:
        check_settings(self, cost=A_REWARD, limit=REWARD)

    async def allows(self, prompt: Prompt, response: Response) -> bool:
        """Whether the budget is not spent yet."""
        return await ask(self.cost, prompt, response) <= self.limit
