"""Calibrate: Cards with a target that is found for each prompt from the policy's own draws.

Law      sum over c of P(c) law(y | target(c)), where c are `draws` independent answers from pi,
         target(c) is the quantile (or mean + standard deviations) of their rewards, and the law
         given a target is that of `Cards`. The draws only set the target; the answer is drawn anew.
Paper    CARDS, Li et al. 2024, arXiv:2406.16306, sets the target by hand for each reward model.
Departs  The target is found here. Any threshold and acceptance rule works with it.
Cost     `draws` whole answers at once, each judged, and then the cost of `Cards`. If the policy has
         one possible answer, one draw sets the target.
Streams  as `Cards`, after the draws.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rsalign.core.capabilities import AnswerLaw, TraceKind
from rsalign.core.checks import above, at_least, check_settings, part, quote, setting_error
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
    """Rewards of whole answers drawn at once from pi below the run's address, ``(allowed,)``.

    Answers that a constraint excludes have none.

    Args:
        prompt: what is answered.
        run: policy, reward and address; its trace does not record these draws.
        draws: number of answers, at least 1.
        max_tokens: greatest length of each answer in tokens.
    """
    if run.has_one_answer(f"1 answer was drawn to find the target from, not {draws}"):
        draws = 1
    drafts = await concurrently(
        run.at("candidate", i).draft(prompt, (), max_tokens=max_tokens) for i in range(draws)
    )
    return tuple(float(draft.reward) for draft in drafts if not draft.excluded)


async def calibrated_target(
    prompt: Prompt,
    run: Run,
    *,
    draws: int,
    max_tokens: int,
    quantile: float = 0.7,
    num_sds: float | None = None,
) -> float:
    """A target that the policy sometimes reaches by itself, in the reward's units.

    For one target for a whole data set, take the mean over some of its prompts.

    Args:
        prompt: what is answered.
        run: policy, reward, and the address below which the answers are drawn.
        draws: number of answers, at least 1.
        max_tokens: greatest length of each answer in tokens.
        quantile: the target is this quantile of the rewards (`upper_quantile`).
        num_sds: if given, the target is the mean + this many standard deviations instead.
    """
    rewards = await _own_rewards(prompt, run, draws=draws, max_tokens=max_tokens)
    if not rewards:
        raise ConfigError(
            f"none of {draws} answers drawn is allowed, so that there is no reward to find a "
            "target from: draw more, or loosen the constraint"
        )
    return _target(rewards, quantile, num_sds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrate:
    """Runs `inner` with a target for each prompt that the policy itself sometimes reaches.

    If a budget ends the run while the target is being found, the best of the draws by reward is the
    answer. Later on it is that of `Cards`, for which a draw that begins with the accepted segments
    counts as a rejected draft: the draws are whole answers that were paid for.

    Notes: ``target``; ``calibration_rewards``; and those of `Cards`, of which ``hopeless`` says
    whether the target was out of reach all the same (`Cards.hopeless_below`).

    Attributes:
        inner: draws the answer. Its threshold is aimed at the target; if it has none, it gets
            `Line`, the paper's. The draws have its `max_tokens`.
        draws: number of answers that the target is found from.
        quantile: the target is this quantile of their rewards, above 0 and at most 1
            (`upper_quantile`).
        num_sds: if given, the target is their mean + this many standard deviations instead.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner, Cards, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Calibrate(inner=Cards(segmenter=FixedSize(2), max_tokens=6), draws=4)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> notes = output.alignment.diagnostics
        >>> notes["target"] in notes["calibration_rewards"]
        True
    """

    inner: Cards
    draws: int = 8
    quantile: float = 0.7
    num_sds: float | None = None

    varies_by_policy_alone: ClassVar[bool] = True
    missing_setting: ClassVar[str] = ""  # it finds the target
    trace_kind: ClassVar[TraceKind] = "segments"
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.REJECTION_GIVEN_TARGET
    note_meanings: ClassVar[dict[str, str]] = {
        "target": "reward of a whole answer that is aimed at",
        "calibration_rewards": "of the draws that set the target",
    }

    def __post_init__(self) -> None:
        check_settings(self, inner=part("Cards(...)"), draws=at_least(1), quantile=above(0.0, 1.0))
        if not isinstance(self.inner.threshold, AimedThreshold | None):
            raise setting_error(
                self, "inner", "Cards(...) without a threshold, or with one that has `with_target`"
            )

    @property
    def parallel_draws(self) -> int:
        """Those that the target comes from, or the inner strategy's if these are more."""
        return max(self.draws, self.inner.parallel_draws)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Finds the target, then draws an answer with `inner`."""
        rewards = await _own_rewards(
            prompt, run.at("calibrate"), draws=self.draws, max_tokens=self.inner.max_tokens
        )
        if not rewards:
            return run.abstain(prompt, f"none of the {self.draws} answers drawn is allowed")
        target = _target(rewards, self.quantile, self.num_sds)
        run.trace.note(target=target, calibration_rewards=rewards)
        aimed: Strategy = replace(self.inner, threshold=self.aimed(target))
        return await aimed.sample(prompt, run.at("answer"))

    def aimed(self, target: float) -> Threshold:
        """The threshold of `inner`, aimed at this target."""
        given = self.inner.threshold
        return (
            given.with_target(target) if isinstance(given, AimedThreshold) else Line(target=target)
        )

    def threshold_by_length(self, notes: Mapping[str, Any]) -> Callable[[int], float] | None:
        """The threshold at the target that the run found, by number of tokens."""
        target = notes.get("target")
        if not isinstance(target, int | float):
            return self.inner.threshold_by_length(notes)
        return replace(self.inner, threshold=self.aimed(target)).threshold_by_length(notes)


def _target(rewards: tuple[float, ...], quantile: float, num_sds: float | None) -> float:
    if num_sds is None:
        return upper_quantile(rewards, quantile)
    target = above_mean(rewards, num_sds)
    if not math.isfinite(target):
        raise ConfigError(
            f"Calibrate(num_sds={num_sds!r}): the target {target} for draws with the rewards "
            f"{quote(rewards)} is beyond all floats: give a smaller number"
        )
    return target
