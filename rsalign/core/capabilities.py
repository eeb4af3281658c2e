"""What a part says about itself: optional class attributes, and the value that holds without one.

A part declares a capability by an attribute or property of the name given here. The protocols do
not require these attributes, so that a class with one method is a complete part; every reader
therefore asks the function of this module and gets the default if the part says nothing. What a
policy or reward can do *besides* its protocol (`rsalign.core.protocols.Likelihood` and the like)
is asked with ``isinstance``.

===========================  ========  =========================================================
attribute                    default   of
===========================  ========  =========================================================
``needs_reward``             True      strategies, selectors, answer rules of chains
``cuts_answers``             True      strategies
``varies_by_policy_alone``   False     strategies
``needs_certainty``          False     selectors
``asks_judge``               False     selectors
``answer_law``               UNKNOWN   strategies
``independent_draws``        0         strategies
``picks``                    ""        selectors
``overdraws``                None      policies
``tells_log_probs``          True      policies
===========================  ========  =========================================================
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any


class AnswerLaw(StrEnum):
    """What is known of the probability law of a strategy's answer, next to that of the policy.

    A report needs this to tell which estimate of KL(law of the answer || policy) holds.
    """

    UNKNOWN = "unknown"
    """Nothing is known; no divergence is reported."""
    POLICY = "policy"
    """One draw of the policy."""
    BEST_OF = "best_of"
    """The highest reward of a number of independent draws of the policy."""
    POOL = "pool"
    """One of several independent draws of the policy, chosen in another way."""
    REJECTION = "rejection"
    """What rejection sampling accepted."""
    REJECTION_GIVEN_TARGET = "rejection_given_target"
    """The same, with a threshold that was drawn for this answer."""
    CHAIN_STATE = "chain_state"
    """The last state of a Markov chain, whose target law is known up to a constant."""
    CHAIN_ELECTION = "chain_election"
    """Elected from the states of a Markov chain: further from the policy than its target law."""


HIGHEST_REWARD = "highest_reward"
LAST = "last"


def needs_reward(part: object) -> bool:
    """Whether a strategy or selector asks for rewards.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> needs_reward(BestOf(n=4)), needs_reward(Plain())
        (True, False)
    """
    return bool(getattr(part, "needs_reward", True))


def cuts_answers(strategy: object) -> bool:
    """Whether a strategy may ask for the rest of an answer whose first tokens it keeps.

    A strategy that draws whole answers only says ``cuts_answers = False``. It can then be used
    with penalties, grammars and whatever else depends on where the prompt ended
    (`rsalign.core.types.Sampling.whole_answer_fields`).
    """
    return bool(getattr(strategy, "cuts_answers", True))


def varies_by_policy_alone(strategy: object) -> bool:
    """Whether a strategy's answers differ only because the policy's draws differ.

    Under a policy with a single possible continuation (`Sampling.is_point_mass`) such a strategy
    is run once where several answers were asked for.
    """
    return bool(getattr(strategy, "varies_by_policy_alone", False))


def needs_certainty(selector: object) -> bool:
    """Whether a selector reads `Response.certainty`, so that drafts must be measured."""
    return bool(getattr(selector, "needs_certainty", False))


def asks_judge(selector: object) -> bool:
    """Whether a selector asks a judge or another model; it does not run once a budget is spent."""
    return bool(getattr(selector, "asks_judge", False))


def overdraws(policy: object) -> bool | None:
    """Whether a draw may go on past ``boundary.max_tokens``; None if the policy does not say.

    False: a draw with a boundary takes at most ``boundary.max_tokens``, those beyond the boundary
    included. True: it takes up to ``max_new_tokens``. A budget reserves so many tokens for each
    open draw; from a policy that says neither, it asks for one token more than the boundary.
    """
    found: bool | None = getattr(policy, "overdraws", None)
    return found


def tells_log_probs(policy: object) -> bool:
    """Whether a policy's segments have the log-probabilities of the law they were drawn from."""
    return bool(getattr(policy, "tells_log_probs", True))


def answer_law(strategy: object) -> AnswerLaw:
    """What is known of the law of a strategy's answer.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> str(answer_law(Plain())), str(answer_law(BestOf(n=4)))
        ('policy', 'best_of')
    """
    return AnswerLaw(getattr(strategy, "answer_law", AnswerLaw.UNKNOWN))


def independent_draws(strategy: object) -> int:
    """How many independent draws of the policy a strategy takes for each prompt; 0 if unknown."""
    return int(getattr(strategy, "independent_draws", 0))


def picks(selector: object) -> str:
    """Which candidate a selector always picks: `HIGHEST_REWARD`, `LAST`, or "" for any other."""
    return str(getattr(selector, "picks", ""))


def describe_part(part: Any) -> Any:
    """A strategy, or any part of one, as JSON data that tells its kind from others."""
    if is_dataclass(part) and not isinstance(part, type):
        settings = {field.name: describe_part(getattr(part, field.name)) for field in fields(part)}
        return {"class": type(part).__name__} | settings
    if isinstance(part, Mapping):
        return {str(name): describe_part(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [describe_part(value) for value in part]
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # JSON has no infinity
    if part is None or isinstance(part, bool | int | float | str):
        return part
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{named.__qualname__}"
