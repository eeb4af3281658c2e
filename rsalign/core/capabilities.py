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
``draws_one_answer``         False     strategies
``needs_certainty``          False     selectors
``asks_judge``               False     selectors
``overdraws``                None      policies
``tells_log_probs``          True      policies
===========================  ========  =========================================================
"""


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
    (`rsalign.core.sampling.Sampling.whole_answer_fields`).
    """
    return bool(getattr(strategy, "cuts_answers", True))


def varies_by_policy_alone(strategy: object) -> bool:
    """Whether a strategy's answers differ only because the policy's draws differ.

    Under a policy with a single possible continuation (`Sampling.is_point_mass`) such a strategy
    is run once where several answers were asked for.
    """
    return bool(getattr(strategy, "varies_by_policy_alone", False))


def draws_one_answer(strategy: object) -> bool:
    """Whether a strategy draws a single answer and returns it.

    Every other strategy compares several draws, and so says nothing under greedy decoding
    (temperature 0), where all draws are equal.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> draws_one_answer(Plain()), draws_one_answer(BestOf(n=4))
        (True, False)
    """
    return bool(getattr(strategy, "draws_one_answer", False))


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
