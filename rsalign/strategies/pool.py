"""A pool of candidates: how they are drawn as a selector needs them, and what is put on record."""

import dataclasses
import math
from collections.abc import Sequence

from rsalign.align import needs_reward
from rsalign.checks import part, shown
from rsalign.errors import ConfigError
from rsalign.protocols import Strategy
from rsalign.rules.estimators import effective_sample_size, pool_kl
from rsalign.selectors.protocol import Selection, Selector
from rsalign.trace import Note, Proposal, Trace, Verdict
from rsalign.types import Candidate

STRATEGY = part("a strategy, such as Plain()")
"""What a strategy inside another one must be."""


def require_fit(owner: object, inner: Strategy, select: Selector) -> None:
    """Refuses a selector that must know what the inner strategy does not tell.

    Raises:
        ConfigError: with both.
    """
    if _needs_certainty(select) and not hasattr(inner, "measured"):
        raise ConfigError(
            f"{type(owner).__name__}(inner={shown(inner)}, select={shown(select)}): the selector "
            "must know how certain the policy was of each draw, which this inner strategy does not "
            "ask: give inner=Plain()"
        )


def any_needs_reward(inner: Strategy, select: Selector) -> bool:
    """Whether the selector or the inner strategy asks for rewards."""
    return bool(getattr(select, "needs_reward", True)) or needs_reward(inner)


def drawing(inner: Strategy, select: Selector) -> Strategy:
    """The inner strategy, with its draws measured if the selector needs that."""
    if not _needs_certainty(select):
        return inner
    measured: Strategy = dataclasses.replace(inner, measured=True)  # type: ignore[type-var]
    return measured


def record(trace: Trace, candidates: Sequence[Candidate], selection: Selection) -> None:
    """All candidates with the probability of choosing them, and what the choice rests on."""
    for i, (candidate, prob) in enumerate(zip(candidates, selection.probs, strict=True)):
        verdict = Verdict.ACCEPTED if i == selection.index else Verdict.REJECTED
        log_accept = min(0.0, math.log(prob)) if prob > 0 else float("-inf")
        trace.propose(Proposal(candidate=candidate, kept=0, log_accept=log_accept, verdict=verdict))
    notes: dict[str, Note] = {
        "rewards": tuple(float(candidate.reward) for candidate in candidates),
        "kl_estimate": pool_kl(selection.probs, [candidate.tokens for candidate in candidates]),
        "effective_sample_size": effective_sample_size(selection.probs),
    }
    trace.note(**notes | dict(selection.notes))


def _needs_certainty(select: object) -> bool:
    return bool(getattr(select, "needs_certainty", False))
