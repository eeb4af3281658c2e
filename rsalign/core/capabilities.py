"""What a part declares about itself: optional class attributes, their defaults and meanings.

A part declares a capability by an attribute or property of the name given here. The protocols do
not require these attributes, so that a class with one method is a complete part; every reader
therefore calls the function of this module and gets the default if the part declares nothing. No
code asks a part for its class. What a policy or reward can do *besides* its protocol
(`rsalign.core.protocols.Likelihood` and the like) is asked with ``isinstance``.

===========================  =============  ====================================================
attribute                    default        of
===========================  =============  ====================================================
``needs_reward``             True           strategies, selectors, answer rules of chains
``cuts_answers``             True           strategies
``varies_by_policy_alone``   False          strategies
``draws_once``               False          strategies
``trace_kind``               "proposals"    strategies
``kl_source``                None           strategies
``stops_early``              False          strategies
``threshold_by_length``      None           strategies
``note_meanings``            {}             strategies, selectors, rules for beta
``needs_certainty``          False          selectors
``asks_judge``               False          selectors
``chooses_by_position``      False          selectors
``takes_highest_reward``     False          selectors
``overdraws``                None           policies
``tells_log_probs``          True           policies
===========================  =============  ====================================================
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from rsalign.core.nesting import setting_names

TraceKind: TypeAlias = Literal["proposals", "pool", "segments", "chains"]
"""How the proposals of a run are to be read; see `trace_kind`."""

KLSource: TypeAlias = Literal["policy", "pool", "target", "accepted", "accepted_given_target"]
"""How the divergence of an answer's law from the policy is known; see `kl_source`."""


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


def draws_once(strategy: object) -> bool:
    """Whether a strategy makes one draw from the policy and returns it unchanged, as `Plain` does.

    The tokens of such a draw are tokens of the answer from the moment they are drawn, and a
    complete draw is the answer even if no reward was asked about it. A greedy policy is of use to
    such a strategy only.
    """
    return bool(getattr(strategy, "draws_once", False))


def trace_kind(strategy: object) -> TraceKind:
    """How the proposals in the trace of a strategy's run are to be read.

    - ``"proposals"``: whole candidates, in the order in which they were considered.
    - ``"pool"``: whole candidates of which one was chosen, so that their order means nothing.
    - ``"segments"``: drafts of one segment after another; those with equal `Proposal.kept` compete.
    - ``"chains"``: one inner trace ``("chain", c)`` for each Markov chain, with one below it,
      ``("replica", j)``, for each tempered replica. The address of a proposal has the number of
      its step after the label ``"step"``, and `Proposal.state` is the state that it was made from.
      The settings ``burn_in`` and ``tempering`` are those of `MarkovChain`, if there are any.
    """
    kind: TraceKind = getattr(strategy, "trace_kind", "proposals")
    return kind


def kl_source(strategy: object) -> KLSource | None:
    """How KL(law of the answer || policy) is known from a run; None if it is not.

    - ``"policy"``: the law is the policy's, and the divergence is 0.
    - ``"pool"``: the notes ``kl_formula`` and ``kl_estimate`` tell the divergence from the law of
      an *inner* draw.
    - ``"target"``: the note ``kl`` tells that of the target distribution of a Markov chain.
    - ``"accepted"``: what was accepted was drawn by rejection sampling, and the probabilities in
      the trace tell it (`eval.analysis.acceptance`).
    - ``"accepted_given_target"``: the same, for the law given a target that the run drew first. By
      convexity its mean bounds that of the answer from above.

    Args:
        strategy: an instance or a class.
    """
    source: KLSource | None = getattr(strategy, "kl_source", None)
    return source


def stops_early(strategy: object) -> bool:
    """Whether the number of candidates in a strategy's pool depends on the candidates.

    Args:
        strategy: an instance or a class.
    """
    return bool(getattr(strategy, "stops_early", False))


def threshold_by_length(
    strategy: object, notes: Mapping[str, Any]
) -> Callable[[int], float] | None:
    """The reward that a partial answer of so many tokens was held to, in the reward's units.

    A strategy declares it by a method ``threshold_by_length(notes)``.

    Args:
        strategy: any.
        notes: of its run.

    Returns:
        None if the strategy has no threshold, or the notes do not tell what it depends on.
    """
    declared = getattr(strategy, "threshold_by_length", None)
    found: Callable[[int], float] | None = None if declared is None else declared(notes)
    return found


def note_meanings(part: object) -> dict[str, str]:
    """What the notes of a strategy's run mean, in a few words each, by name.

    Each part declares the notes that it makes by itself: ``note_meanings = {"beta": "divides the
    reward"}``. Those of the parts that it has as settings are added.

    Example:
        >>> from rsalign import BestOf
        >>> note_meanings(BestOf(n=4))["kl_formula"]
        'KL(law || inner draw) if no two rewards are equal, nats'
    """
    found: dict[str, str] = {}
    for name in setting_names(part):
        inner = getattr(part, name, None)
        if hasattr(inner, "note_meanings"):
            found |= note_meanings(inner)
    return found | dict(getattr(part, "note_meanings", {}))


def needs_certainty(selector: object) -> bool:
    """Whether a selector reads `Response.certainty`, so that drafts must be measured."""
    return bool(getattr(selector, "needs_certainty", False))


def asks_judge(selector: object) -> bool:
    """Whether a selector asks a judge or another model; it does not run once a budget is spent."""
    return bool(getattr(selector, "asks_judge", False))


def chooses_by_position(selector: object) -> bool:
    """Whether a selector looks at the positions of the candidates alone, as `Last` does.

    The chosen state of a Markov chain then has the distribution of the state at that step.
    """
    return bool(getattr(selector, "chooses_by_position", False))


def takes_highest_reward(selector: object) -> bool:
    """Whether a selector takes the candidate with the highest reward, so that it is best-of-n."""
    return bool(getattr(selector, "takes_highest_reward", False))


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
