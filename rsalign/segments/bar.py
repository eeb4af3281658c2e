"""The bar that the drafts of one answer are held to: a rule of acceptance and a threshold."""

import math
from dataclasses import dataclass

from rsalign.core.errors import ConfigError
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.segments.acceptance import Acceptance
from rsalign.segments.thresholds import Threshold


def needs_threshold(acceptance: Acceptance) -> bool:
    """Whether a rule compares rewards with a threshold; `Conformal` does not."""
    return bool(getattr(acceptance, "needs_threshold", True))


def missing_threshold(
    name: str, threshold: Threshold | None, acceptance: Acceptance, hint: str
) -> str:
    """What a strategy says of a threshold that it lacks (`Strategy.missing_setting`).

    Args:
        name: of the strategy in settings.
        threshold: None if it has none.
        acceptance: its rule, which may need none.
        hint: what to give.
    """
    if threshold is not None or not needs_threshold(acceptance):
        return ""
    return f"{name} has no threshold: give {hint}"


@dataclass(frozen=True, slots=True)
class Bar:
    """A threshold for one prompt.

    Attributes:
        threshold: None if the rule of acceptance has no use for one.
        prompt_reward: reward of the prompt without an answer, if the threshold needs it.
        max_tokens: greatest length of the whole answer.
    """

    threshold: Threshold | None
    prompt_reward: float
    max_tokens: int

    @classmethod
    async def of(
        cls,
        threshold: Threshold | None,
        acceptance: Acceptance,
        prompt: Prompt,
        run: Run,
        max_tokens: int,
    ) -> "Bar | None":
        """Asks for the reward of the prompt if the threshold needs it.

        Returns:
            None if the constraint allows no answer at all.

        Raises:
            ConfigError: if there is no threshold and the rule of acceptance needs one.
        """
        if threshold is None:
            if needs_threshold(acceptance):
                raise ConfigError(
                    f"there is no threshold, and {type(acceptance).__name__} compares rewards with "
                    "one: give threshold=Line(target=...) or Constant(value=...), in the reward's "
                    "units (for Cards, Calibrate finds one), or acceptance=Conformal(alpha=...), "
                    "which needs none"
                )
            return cls(None, 0.0, max_tokens)
        if not threshold.needs_prompt_reward:
            return cls(threshold, 0.0, max_tokens)
        judged = await run.judge(prompt, (), None)
        if judged.excluded:
            return None
        run.trace.note(prompt_reward=judged.reward)
        return cls(threshold, judged.reward, max_tokens)

    def log_accept(self, acceptance: Acceptance, draft: Candidate, value: float) -> float:
        """Ln P(accept) of a draft.

        Args:
            acceptance: the rule, calibrated if it needs that.
            draft: the whole answer so far; never accepted if it is excluded.
            value: its reward, or what counts in place of that.
        """
        if draft.excluded or value == -math.inf:
            return -math.inf
        at = 0.0
        if self.threshold is not None:
            at = self.threshold.at(
                len(draft.tokens), prompt_reward=self.prompt_reward, max_tokens=self.max_tokens
            )
        return acceptance.log_accept(value, at)
