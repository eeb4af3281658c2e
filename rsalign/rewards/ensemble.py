"""Several reward models for one quality: a cautious ensemble, and a routing by prompt."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.core.checks import Allowed, at_least, check_settings, quote, setting_error
from rsalign.core.errors import RewardError
from rsalign.core.foreign import errors_as
from rsalign.core.protocols import Reward
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_REWARD, Composite, ask_all, combined, component_names

Predicate: TypeAlias = Callable[[Prompt], bool]
"""Decides whether a prompt belongs to a route; must be deterministic and fast."""


@dataclass(frozen=True, slots=True)
class LowerConfidenceBound(Composite):
    """``mean - coefficient * sd`` over the members' rewards: disagreement is penalised.

    Members disagree mostly on responses unlike their training data, which is also where a sampler
    over-optimises a single reward model. The standard deviation `sd` divides by the number of
    members (not by the number less 1), because they are the whole ensemble and not a sample of it.

    Papers: Coste et al. 2023, arXiv:2310.02743 (they subtract the variance, whose unit is not that
    of the reward); Eisenstein et al. 2023, arXiv:2312.09244.

    Attributes:
        rewards: the members, at least 2, on one scale, ``(members,)``.
        coefficient: number of standard deviations to subtract; 0 gives the mean.

    Raises:
        ConfigError: if there are fewer than 2 members, or the coefficient is negative.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> from rsalign import Scaled
        >>> ensemble = LowerConfidenceBound([length, Scaled(length, 3.0)])
        >>> float(asyncio.run(ensemble.score(prompt, response)))
        5.0
    """

    rewards: Sequence[Reward]
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        doubt = at_least(0.0, note="a negative one would reward doubt")
        check_settings(self, rewards=A_REWARD, coefficient=doubt)
        if len(self.rewards) < 2:
            raise setting_error(self, "rewards", "at least 2: one cannot disagree with itself")

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The members' mean less `coefficient` times their standard deviation."""
        values = await ask_all(self.rewards, prompt, response)
        mean = sum(values) / len(values)
        sd = math.dist(values, [mean] * len(values)) / math.sqrt(len(values))
        return combined(mean - self.coefficient * sd, values, component_names(self.rewards))


@dataclass(frozen=True, slots=True)
class Routed(Composite):
    """Scores by the first route whose predicate is true for the prompt, else by the default.

    Use it to have one expert reward model for each kind of prompt. Only that one is called.

    Paper: the outer layer of Quan 2024, arXiv:2403.01197.
    Departs: the paper routes by a trained model that sees the response; here a predicate of the
    prompt routes, because all responses to one prompt must be scored by the same member.

    Attributes:
        routes: pairs of a predicate and a reward, tried in order, ``(routes,)``.
        default: scores the prompts for which no predicate is true.

    Raises:
        ConfigError: if a route is not a pair of a predicate and a reward.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> from rsalign import Scaled
        >>> routed = Routed([(lambda prompt: "Hi" in prompt.text, length)], Scaled(length, 9.0))
        >>> float(asyncio.run(routed.score(prompt, response)))
        5.0
    """

    routes: Sequence[tuple[Predicate, Reward]]
    default: Reward

    def __post_init__(self) -> None:
        pairs = Allowed(note="the function tells of a prompt whether the reward judges it")
        check_settings(self, routes=pairs, default=A_REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The value of the reward that is responsible for the prompt.

        Raises:
            RewardError: if a predicate fails.
        """

        def failed(failure: BaseException) -> RewardError:
            return RewardError(
                f"a predicate of Routed raised {quote(failure, longest=320)} on the prompt "
                f"{quote(prompt.text)}: mend it, or catch what it may raise and return True or "
                "False",
                prompt=prompt,
                response=response,
            )

        for predicate, reward in self.routes:
            with errors_as(failed):
                chosen = predicate(prompt)
            if chosen:
                return await reward.score(prompt, response)
        return await self.default.score(prompt, response)
