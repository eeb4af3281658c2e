"""Calibrate: Cards with a target from the policy's own draws for the same prompt.

Law      sum over c of P(c) law(y | target(c)): c are `draws` independent answers from pi, target
         their reward's quantile (or mean + sd), and the law given a target that of `Cards`. The
         draws set the target and are then forgotten: the answer is drawn anew.
Paper    CARDS, Li et al. 2024, arXiv:2406.16306, sets its target by hand for each reward model.
Departs  that target is found here; any threshold or acceptance works with it.
Cost     `draws` whole answers at once, each judged, and then that of `Cards`; one where the policy
         has one possible answer.
Streams  as `Cards`, once the draws are done.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from rsalign.core.capabilities import AnswerLaw
from rsalign.core.checks import above, at_least, check_settings, part, refused, shown
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt
from rsalign.segments.thresholds import AimedThreshold, Line, Threshold, above_mean, upper_quantile
from rsalign.strategies.cards import Cards


async def _own_rewards(
    prompt: Prompt, run: Run, *, draws: int, max_tokens: int
) -> tuple[float, ...]:
    """Rewards of whole answers from pi, drawn at once below the run's address, ``(draws,)``.

    Args:
        prompt: what is answered.
        run: what is drawn is not recorded in its trace.
        draws: number of answers, at least 1.
        max_tokens: bounds each of them.
    """
    if run.has_one_answer(f"1 answer was drawn to find the target from, not {draws}"):
        draws = 1
    drafts = await concurrently(
        run.at("candidate", i).draft(prompt, (), max_tokens=max_tokens) for i in range(draws)
    )
    return tuple(float(draft.reward) for draft in drafts)


async def calibrated_target(
    prompt: Prompt,
    run: Run,
    *,
    draws: int,
    max_tokens: int,
    quantile: float = 0.7,
    num_sds: float | None = None,
) -> float:
    """A target that the policy reaches by itself, in the reward's units.

    For a target of a whole data set, take the mean over some of its prompts.

    Args:
        prompt: what is answered.
        run: policy, reward and the address below which is drawn.
        draws: answers to learn from, at least 1.
        max_tokens: bounds each of them.
        quantile: the target is the least reward that a share of at least this does not exceed.
        num_sds: if given, it is the mean + this many standard deviations instead.
    """
    rewards = await _own_rewards(prompt, run, draws=draws, max_tokens=max_tokens)
    return _target(rewards, quantile, num_sds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrate:
    """`inner` with a target for each prompt that the policy itself sometimes reaches.

    If a budget ends the run while the target is being found, the best of the draws by reward is the
    answer. Later on it is that of `Cards`, for which a draw that begins with the accepted segments
    counts as a rejected draft: the draws are whole answers that were paid for.

    Notes, besides those of `Cards`, of which ``hopeless`` tells a target that was out of reach all
    the same (`Cards.hopeless_below`): ``target``; ``calibration_rewards``.

    Attributes:
        inner: what answers. Its threshold is set to the target; without one it is the paper's
            line. The draws have its `max_tokens`.
        draws: answers to learn from.
        quantile: of their rewards, above 0 and at most 1: the least one that a share of at least
            this does not exceed.
        num_sds: if given, the target is their mean + this many standard deviations instead.

    Raises:
        ConfigError: if a setting is out of its range.
    """

    varies_by_policy_alone: ClassVar[bool] = True
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.REJECTION_GIVEN_TARGET

    inner: Cards
    draws: int = 8
    quantile: float = 0.7
    num_sds: float | None = None

    def __post_init__(self) -> None:
        check_settings(self, inner=part("Cards(...)"), draws=at_least(1), quantile=above(0.0, 1.0))
        if not isinstance(self.inner.threshold, AimedThreshold | None):
            raise refused(
                self, "inner", "Cards(...) without a threshold, or with one that has `with_target`"
            )

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Finds the target, then samples."""
        rewards = await _own_rewards(
            prompt, run.at("calibrate"), draws=self.draws, max_tokens=self.inner.max_tokens
        )
        target = _target(rewards, self.quantile, self.num_sds)
        run.trace.note(target=target, calibration_rewards=rewards)
        aimed: Strategy = replace(self.inner, threshold=self.aimed(target))
        return await aimed.sample(prompt, run.at("answer"))

    def aimed(self, target: float) -> Threshold:
        """The threshold that segments are held to once the target is found."""
        given = self.inner.threshold
        return (
            given.with_target(target) if isinstance(given, AimedThreshold) else Line(target=target)
        )


def _target(rewards: tuple[float, ...], quantile: float, num_sds: float | None) -> float:
    if num_sds is None:
        return upper_quantile(rewards, quantile)
    target = above_mean(rewards, num_sds)
    if not math.isfinite(target):
        raise ConfigError(
            f"Calibrate(num_sds={num_sds!r}): the target {target} for draws with the rewards "
            f"{shown(rewards)} is beyond all floats: give a smaller number"
        )
    return target
