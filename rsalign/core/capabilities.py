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
``answers_in_one_draw``      False          strategies
``missing_setting``          ""             strategies
``trace_kind``               "proposals"    strategies
``answer_law``               UNKNOWN        strategies
``independent_draws``        0              strategies
``parallel_draws``           of the inner   strategies
``stops_early``              False          strategies
``threshold_by_length``      None           strategies
``note_meanings``            {}             strategies, selectors, rules for beta
``answers_together``         False          strategies
``needs``                    ()             strategies, selectors
``part_settings``            ()             strategies, selectors
``needs_certainty``          False          selectors
``asks_judge``               False          selectors
``picks``                    ""             selectors
``averages``                 False          selectors
``overdraws``                None           policies
``tells_log_probs``          True           policies
``vocabulary``               ""             policies
``excludes``                 False          rewards
``component_name``           of the class   rewards
===========================  =============  ====================================================
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from rsalign.core.nesting import inner_strategies, setting_names

TraceKind: TypeAlias = Literal["proposals", "pool", "segments", "chains", "population", "tree"]
"""How the proposals of a run are to be read; see `trace_kind`."""


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
    """Whether a strategy or selector uses rewards.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> needs_reward(BestOf(n=4)), needs_reward(Plain())
        (True, False)
    """
    return bool(getattr(part, "needs_reward", True))


def needs(part: object) -> tuple[str, ...]:
    """The names of the parts that a strategy or selector gets by `Run.part`, such as ``draft``.

    Declared as a tuple, or as a mapping that tells what each must be: ``{"draft": Policy}``. Empty
    for a class whose instances need parts or not by their settings.
    """
    declared = getattr(part, "needs", ())
    return () if isinstance(declared, property) else tuple(declared)


def part_settings(part: object) -> tuple[str, ...]:
    """The settings of a strategy or selector that take a part of the run, or the name of one."""
    return tuple(getattr(part, "part_settings", ()))


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

    Its tokens may be shown while they are drawn, nobody needs their log-probabilities, and a
    complete draw is the answer even if no reward was asked about it. Every other strategy compares
    several draws, and so says nothing under greedy decoding (temperature 0), where all draws are
    equal.

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
    return next(filter(None, map(missing_setting, inner_strategies(strategy).values())), "")


def trace_kind(strategy: object) -> TraceKind:
    """How the proposals in the trace of a strategy's run are to be read.

    - ``"proposals"``: whole candidates, in the order in which they were considered.
    - ``"pool"``: whole candidates of which one was chosen, so that their order means nothing.
    - ``"segments"``: drafts of one segment after another; those with equal `Proposal.kept` compete.
    - ``"population"``: drafts of many prefixes at once. The address of a draft has ``"round", t,
      "particle", i``; a draft was rejected if no prefix that went on begins with it. The note
      ``ancestors`` has, for each round, the number of the particle that each place continues.
    - ``"tree"``: drafts of a tree of prefixes, in the order of the notes ``parents``, ``values``
      and ``visits``; the proposal after them is the chosen answer.
    - ``"chains"``: one inner trace ``("chain", c)`` for each Markov chain, with one below it,
      ``("replica", j)``, for each tempered replica. The address of a proposal has the number of
      its step after the label ``"step"``, and `Proposal.state` is the state that it was made from.
      The settings ``burn_in`` and ``tempering`` are those of `MarkovChain`, if there are any.
    """
    kind: TraceKind = getattr(strategy, "trace_kind", "proposals")
    return kind


def stops_early(strategy: object) -> bool:
    """Whether the number of candidates in a strategy's pool depends on the candidates.

    Args:
        strategy: an instance or a class.
    """
    return bool(getattr(strategy, "stops_early", False))


def answers_together(strategy: object) -> bool:
    """Whether an answer depends on the other prompts of its call, which share a number of draws.

    Such prompts are answered in one call or not at all, also when a killed run is continued.
    """
    return bool(getattr(strategy, "answers_together", False))


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


def vocabulary(policy: object) -> str:
    """Identifies what a policy's token ids mean, and which of them end an answer.

    Policies with equal identities write the same answer by the same tokens. A policy, or the
    `tokenization` that it has, declares it. Empty: not told.
    """
    teller = policy if hasattr(policy, "vocabulary") else getattr(policy, "tokenization", None)
    return str(getattr(teller, "vocabulary", ""))


def excludes(reward: object) -> bool:
    """Whether a reward may exclude responses (`rsalign.core.types.Scored.excluded`).

    Only what it has scored can then be shown or returned: an answer that is streamed while it is
    drawn, or that a budget ended before it was scored, might be one that is not allowed.
    """
    return bool(getattr(reward, "excludes", False))


def component_name(reward: object) -> str:
    """What a reward is called as a component of another one (`rsalign.core.types.Scored.parts`).

    The default is the name of its class in lower case, without "Reward".

    Example:
        >>> from rsalign.testing import ToyReward
        >>> component_name(ToyReward())
        'toy'
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(reward).__name__).lower()
    return str(getattr(reward, "component_name", words.removesuffix("_reward") or words))


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


def parallel_draws(strategy: object) -> int:
    """The greatest number of draws that a strategy has open at once for one answer.

    A server makes room for as many. A strategy that does not declare it has as many as the
    strategies inside it, one after the other, and 1 if there are none.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> parallel_draws(Plain()), parallel_draws(BestOf(n=4, inner=BestOf(n=3)))
        (1, 12)
    """
    declared = getattr(strategy, "parallel_draws", None)
    if declared is not None:
        return int(declared)
    return max(map(parallel_draws, inner_strategies(strategy).values()), default=1)


def picks(selector: object) -> str:
    """Which candidate a selector always picks: `HIGHEST_REWARD`, `LAST`, or "" for any other."""
    return str(getattr(selector, "picks", ""))


def averages(selector: object) -> bool:
    """Whether a selector's choice rests on means over the candidates: votes, expected utilities.

    Such a selector gains from candidates that are spread jointly. One that looks for an extreme,
    such as the highest reward, does not.

    Example:
        >>> from rsalign import Hard, LastNumber, MajorityVote
        >>> averages(MajorityVote(extract=LastNumber())), averages(Hard())
        (True, False)
    """
    return bool(getattr(selector, "averages", False))


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
