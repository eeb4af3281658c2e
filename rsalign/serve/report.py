"""What a response says about how its answers came about: the ``rsalign`` block, and the usage."""

import math
from typing import Any

from rsalign.core.align import Result
from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.serve.request import Wanted

_COUNTS = ("accepted", "rejected", "forced", "drawn", "kept", "reward_calls")


def block(wanted: Wanted) -> dict[str, Any]:
    """The block of a whole response; figures are of all its choices together.

    ``reward`` is the highest among them; ``accepted`` and ``rejected`` count `decided` proposals,
    ``forced`` those at any depth; ``drawn`` and ``kept`` are tokens of the policy; ``streamed``
    tells whether text was sent before it was complete; ``warnings`` lists what the user should
    know, such as that a greedy law has one answer only. Several choices have a part each.
    """
    results = [wanted.ledger.results[i] for i in sorted(wanted.ledger.results)]
    choices = [_choice(result) for result in results]
    rewards = [result.reward for result in results if result.reward is not None]
    whole: dict[str, Any] = {
        "strategy": wanted.name,
        "reward": max(rewards, default=None),
        "expired": any(result.expired for result in results),
        "streamed": wanted.ledger.streamed,
        "seconds": round(wanted.ledger.seconds, 6),
        "seed": results[0].seed,
        **{count: sum(choice[count] for choice in choices) for count in _COUNTS},
        "warnings": list(dict.fromkeys(text for result in results for text in result.warnings)),
    }
    if len(results) == 1:
        return whole | _diagnostics(results[0])
    each = [choice | _diagnostics(result) for choice, result in zip(choices, results, strict=True)]
    return whole | {"choices": each}


def decided(trace: Trace) -> list[Proposal]:
    """The proposals that a strategy decided about.

    Those of the outermost run that had a choice: a strategy that only takes what inner runs (its
    chains, say) agree on leaves the deciding to them.
    """
    level = [trace]
    while sum(len(each.proposals) for each in level) <= 1 and any(each.children for each in level):
        level = [child for each in level for child in each.children.values()]
    return [proposal for each in level for proposal in each.proposals]


def num_forced(trace: Trace) -> int:
    """How many proposals, at any depth, were taken although they were not accepted."""
    return sum(
        proposal.verdict is Verdict.FORCED for each in trace.walk() for proposal in each.proposals
    )


def _choice(result: Result) -> dict[str, Any]:
    verdicts = [proposal.verdict for proposal in decided(result.trace)]
    return {
        "reward": result.reward,
        "accepted": verdicts.count(Verdict.ACCEPTED),
        "rejected": verdicts.count(Verdict.REJECTED),
        "forced": num_forced(result.trace),
        "drawn": result.usage.policy_tokens_drawn,
        "kept": result.usage.policy_tokens_kept,
        "reward_calls": result.usage.reward_calls,
        "expired": result.expired,
    }


def _diagnostics(result: Result) -> dict[str, Any]:
    """What the strategy noted in single numbers."""
    notes = {
        name: value
        for name, value in result.trace.notes.items()
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    }
    return {"diagnostics": notes}
