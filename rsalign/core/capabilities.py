"""Optional attributes by which strategies, selectors and policies declare properties.

A class declares a property with an attribute of the name below. The attributes are optional, so
that a class with a single method is a complete strategy, selector or policy: code that needs the
value calls the function of this module, which returns the default if the attribute is missing.
Further *methods* of a policy or reward (`rsalign.core.protocols.Likelihood` and others) are tested
with ``isinstance`` instead.

===========================  ========  =========================================================
attribute                    default   of
===========================  ========  =========================================================
``needs_reward``             True      strategies, selectors, answer rules of chains
``cuts_answers``             True      strategies
``varies_by_policy_alone``   False     strategies
``answers_in_one_draw``      False     strategies
``missing_setting``          ``""``    strategies
``needs_certainty``          False     selectors
``asks_judge``               False     selectors
``overdraws``                None      policies
``tells_log_probs``          True      policies
===========================  ========  =========================================================
"""

from dataclasses import fields, is_dataclass
from typing import Any


def needs_reward(part: object) -> bool:
    """Whether a strategy or selector uses rewards.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> needs_reward(BestOf(n=4)), needs_reward(Plain())
        (True, False)
    """
    return bool(getattr(part, "needs_reward", True))


def cuts_answers(strategy: object) -> bool:
    """Whether a strategy keeps the first tokens of an answer and draws the rest again.

    A strategy that draws only whole answers declares ``cuts_answers = False``. It can then be used
    with penalties, grammars and other settings that depend on where the prompt ended
    (`rsalign.core.sampling.Sampling.whole_answer_fields`).
    """
    return bool(getattr(strategy, "cuts_answers", True))


def varies_by_policy_alone(strategy: object) -> bool:
    """Whether the policy's draws are a strategy's only source of randomness.

    If the policy has only one possible continuation (`Sampling.is_point_mass`), such a strategy is
    run once, even if several answers are requested.
    """
    return bool(getattr(strategy, "varies_by_policy_alone", False))


def answers_in_one_draw(strategy: object) -> bool:
    """Whether a strategy's answer is a single draw from the policy, as it comes.

    Its tokens may be shown while they are drawn, and nobody needs their log-probabilities. Every
    other strategy compares several draws, and so says nothing under greedy decoding (temperature
    0), where all draws are equal.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> answers_in_one_draw(Plain()), answers_in_one_draw(BestOf(n=4))
        (True, False)
    """
    return bool(getattr(strategy, "answers_in_one_draw", False))


def missing_setting(strategy: Any) -> str:
    """What a strategy must still be told before it can answer; empty if nothing is missing.

    A strategy that does not declare it is missing what the strategies inside it are missing.
    """
    if hasattr(strategy, "missing_setting"):
        return str(strategy.missing_setting)
    inner = (getattr(strategy, each.name) for each in fields(strategy))
    nested = (one for one in inner if is_dataclass(one) and hasattr(one, "sample"))
    return next(filter(None, map(missing_setting, nested)), "")


def needs_certainty(selector: object) -> bool:
    """Whether a selector reads `Response.certainty`, which must then be measured for each draft."""
    return bool(getattr(selector, "needs_certainty", False))


def asks_judge(selector: object) -> bool:
    """Whether a selector calls a judge or model; it is not run after a budget is spent."""
    return bool(getattr(selector, "asks_judge", False))


def overdraws(policy: object) -> bool | None:
    """Whether a draw may continue past ``boundary.max_tokens``; None if the policy does not say.

    False: a draw with a boundary takes at most ``boundary.max_tokens`` tokens, including those
    beyond the boundary. True: it takes up to ``max_new_tokens``. A budget reserves this number for
    each open draw. If the policy does not say, the draw is limited to one token more than the
    boundary allows.
    """
    found: bool | None = getattr(policy, "overdraws", None)
    return found


def tells_log_probs(policy: object) -> bool:
    """Whether a policy reports the log-probabilities of the tokens that it draws."""
    return bool(getattr(policy, "tells_log_probs", True))
