"""Several reward models of one quality: a cautious ensemble, and one expert for each prompt."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.core.checks import Allowed, at_least, check_settings, quote, setting_error
from rsalign.core.errors import RewardError
from rsalign.core.foreign import errors_as
from rsalign.core.protocols import Reward
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_REWARD, Composite, ask_all, combined

Predicate: TypeAlias = Callable[[Prompt], bool]
"""Whether a prompt is of some kind; a fixed, quick function."""


@dataclass(frozen=True, slots=True)
class LowerConfidenceBound(Composite):
    """``mean - coefficient * sd`` over the members' rewards: doubt costs.

    Where members disagree they have left what they were trained on, and that is where a sampler
    over-optimises a single one. `sd` divides by the number of members: they are the whole ensemble,
    not a sample of one. Coste et al. 2023, arXiv:2310.02743 (who subtract the variance, which has
    another unit than the reward); Eisenstein et al. 2023, arXiv:2312.09244.

    Attributes:
        rewards: the members, at least 2, on one scale, ``(members,)``.
        coefficient: standard deviations below the mean; 0 is the mean.

    Raises:
        ConfigError: if there are fewer than 2 members, or the coefficient is negative.
    """

    rewards: Sequence[Reward]
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        doubt = at_least(0.0, note="a negative one would reward doubt")
        check_settings(self, rewards=A_REWARD, coefficient=doubt)
        if len(self.rewards) < 2:
            raise setting_error(self, "rewards", "at least 2: one cannot disagree with itself")

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The members' mean, less their disagreement."""
        values = await ask_all(self.rewards, prompt, response)
        mean = sum(values) / len(values)
        sd = math.dist(values, [mean] * len(values)) / math.sqrt(len(values))
        return combined(mean - self.coefficient * sd, values)


@dataclass(frozen=True, slots=True)
class Routed(Composite):
    """The reward of the first route whose predicate holds for the prompt, else of the default.

    One expert for each kind of prompt, and only that one is asked: the outer layer of Quan 2024,
    arXiv:2403.01197. Departs: there a trained model routes; here a predicate does, because every
    response of one prompt must be judged by the same member.

    Attributes:
        routes: pairs of predicate and reward, in order, ``(routes,)``.
        default: judges prompts that no predicate claims.

    Raises:
        ConfigError: if a route is no pair of a predicate and a reward.
    """

    routes: Sequence[tuple[Predicate, Reward]]
    default: Reward

    def __post_init__(self) -> None:
        pairs = Allowed(note="the function tells of a prompt whether the reward judges it")
        check_settings(self, routes=pairs, default=A_REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """What the prompt's own member says.

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
