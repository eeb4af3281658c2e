"""Every kind of part that settings can name, and the names of the parts that rsalign has."""

import difflib
import inspect
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from rsalign.allocation import ALLOCATION_RULES, AllocationRule
from rsalign.chains.beta_rules import BETA_RULES, BetaRule
from rsalign.chains.cuts import CUTS, CutLaw
from rsalign.chains.moves import Move
from rsalign.chains.stopping import LEADS, STOPPING, Stopping
from rsalign.core.constraint import Constraint
from rsalign.core.declared import declared_types
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import (
    Boundary,
    Encoder,
    Likelihood,
    PairwiseReward,
    Policy,
    Reward,
    StepReward,
    Strategy,
)
from rsalign.policies import POLICIES
from rsalign.populations import MOVES, RESAMPLINGS, TWISTS, Resampling, Twist
from rsalign.rewards import (
    CONSTRAINTS,
    JUDGES,
    REWARDS,
    STEP_LAYOUTS,
    TEMPLATES,
    StepLayout,
    Template,
)
from rsalign.segments import SEGMENTERS
from rsalign.segments.acceptance import ACCEPTANCES, Acceptance
from rsalign.segments.thresholds import THRESHOLDS, Threshold
from rsalign.selectors import SELECTORS, Selector
from rsalign.selectors.extraction import EXTRACTORS, Extract
from rsalign.selectors.leads import Lead
from rsalign.selectors.utilities import UTILITIES, Utility
from rsalign.strategies import STRATEGIES
from rsalign.words.messages import show_name, suggest
from rsalign.words.models import POLICIES as MODELS
from rsalign.words.models import REWARDS as MODELS_OF_REWARDS
from rsalign.words.models import make_policy, make_reward

METADATA = "kind"
"""Key of a field's metadata that names its kind, where the declared type does not tell it:
``field(metadata={"kind": "judge"})``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of part.

    Attributes:
        word: its name, in `KINDS`, in field metadata and in messages.
        known: the parts that have a name: classes, functions that make a part, or parts.
        methods: an object of this kind has at least one of these.
        declared: the types that a field of this kind may be declared as.
        default: the part that settings such as ``segmenter.n=16`` refer to where neither a name is
            given nor the field has a default; empty: there is none.
        example: a setting that names one, for messages, with ``{}`` for the field.
        make: makes a part of any text that is not a known name, from the text and settings; None:
            only ``module:name`` is allowed besides.
        operators_only: whether a request may not name such a part, because that starts an engine,
            opens a connection or runs code.
        read: reads a part from the path of a file, which a request may not name either.
    """

    word: str
    known: Mapping[str, Any]
    methods: tuple[str, ...]
    declared: tuple[Any, ...]
    default: str = ""
    example: str = ""
    make: Callable[[Any, Mapping[str, Any]], Any] | None = None
    operators_only: bool = False
    read: Callable[[str], Any] | None = None


KINDS: Mapping[str, Kind] = {
    kind.word: kind
    for kind in (
        Kind("strategy", STRATEGIES, ("sample",), (Strategy,), "plain", "{}=plain"),
        Kind("selector", SELECTORS, ("select",), (Selector,), "", "{}=majority_vote"),
        Kind("cut law", CUTS, ("weights",), (CutLaw,), "uniform", "{}=uniform"),
        Kind("stopping rule", STOPPING, ("enough",), (Stopping,), "", "{}=decided_lead"),
        Kind("rule of votes", LEADS, ("decided",), (Lead,), "", "{}=decided_lead"),
        Kind(
            "rule of allocation",
            ALLOCATION_RULES,
            ("urgency",),
            (AllocationRule,),
            "uniform",
            "{}=blend",
        ),
        Kind("rule for beta", BETA_RULES, ("beta",), (BetaRule,), "", "{}=target_kl"),
        Kind("rule of resampling", RESAMPLINGS, ("ancestors",), (Resampling,), "", "{}=systematic"),
        Kind("move", MOVES, ("step",), (Move,), "particle_gibbs", "{}=particle_gibbs"),
        Kind("twist", TWISTS, ("log_value",), (Twist,), "partial_reward", "{}=look_ahead"),
        Kind("extractor", EXTRACTORS, ("__call__",), (Extract,), "", "{}=last_number"),
        Kind("utility", UTILITIES, ("__call__",), (Utility,), "", "{}=rouge_1"),
        Kind("segmenter", SEGMENTERS, ("ends_before",), (Boundary,), "fixed_size", "{}.n=16"),
        Kind("threshold", THRESHOLDS, ("at",), (Threshold,), "line", "{}.target=1.5"),
        Kind("acceptance", ACCEPTANCES, ("log_accept",), (Acceptance,), "soft", "{}=soft"),
        Kind(
            "template",
            TEMPLATES,
            ("verdict",),
            (Template,),
            example="{}=score",
            read=Template.from_file,
        ),
        Kind("layout", STEP_LAYOUTS, ("with_label",), (StepLayout,), "raw", "{}=math-shepherd"),
        Kind(
            "judge",
            JUDGES,
            ("prefer",),
            (PairwiseReward,),
            example="{}=pairwise_judge",
            operators_only=True,
        ),
        Kind("constraint", CONSTRAINTS, ("allows",), (Constraint,), example="{}=without"),
        Kind(
            "reward",
            REWARDS,
            ("score", "score_steps"),
            (Reward, StepReward),
            example="{}=org/model",
            make=make_reward,
            operators_only=True,
        ),
        Kind(
            "policy",
            POLICIES,
            ("extend", "log_probs", "encode_chat"),
            (Policy, Likelihood, Encoder),
            example="{}=org/model",
            make=make_policy,
            operators_only=True,
        ),
    )
}
"""By word."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a part's class, or of the function that makes the part.

    Attributes:
        name: of the argument.
        declared: its type; `Any` if it has none.
        required: whether it must be given.
        default: the value if it is not given.
        kind: the word of the kind that the field's metadata names; empty if it names none.
    """

    name: str
    declared: Any
    required: bool = True
    default: Any = None
    kind: str = ""


def parameters(made: Callable[..., Any]) -> dict[str, Parameter]:
    """The arguments that a class or function takes by name, in order."""
    if isinstance(made, type) and is_dataclass(made):
        types = declared_types(made)
        return {
            each.name: Parameter(
                each.name,
                types[each.name],
                required=each.default is MISSING and each.default_factory is MISSING,
                default=_default_of(each),
                kind=each.metadata.get(METADATA, ""),
            )
            for each in fields(made)
            if each.name in types
        }
    types = get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    return {
        name: Parameter(
            name,
            types.get(name, Any),
            required=one.default is one.empty,
            default=None if one.default is one.empty else one.default,
        )
        for name, one in inspect.signature(made).parameters.items()
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }


def takes_any_name(made: Callable[..., Any]) -> bool:
    """Whether a class or function takes arguments of any name, such as those of an engine."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(made).parameters.values())


def kind_of(parameter: Parameter) -> Kind | None:
    """The kind of part that an argument takes; None if it takes a plain value.

    The field's metadata tells it, or the declared type (`Strategy`, or a class of one such as
    `Cards`), or else the default value.
    """
    if parameter.kind:
        return KINDS[parameter.kind]
    if parameter.declared is Any:
        made = type(parameter.default)
        return next((kind for kind in KINDS.values() if _is_one(made, kind)), None)
    return kind_declared(parameter.declared)


def kind_declared(declared: Any) -> Kind | None:
    """The kind of part among the members of a declared type."""
    for member in members(declared):
        for kind in KINDS.values():
            if member in kind.declared or (isinstance(member, type) and _is_one(member, kind)):
                return kind
    return None


def item_types(declared: Any) -> tuple[Any, ...]:
    """The types of the items of a sequence of parts; empty if no item is a part.

    One type with an ellipsis stands for a sequence of any length, ``(Reward, ...)``.
    """
    for member in members(declared):
        origin, inner = get_origin(member), get_args(member)
        if origin in (tuple, list, Sequence) and inner:
            types = (inner[0], ...) if origin is not tuple or inner[-1] is ... else inner
            if any(kind_declared(one) or item_types(one) for one in types if one is not ...):
                return types
    return ()


def members(declared: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type itself."""
    origin = typing.get_origin(declared)
    is_union = origin is typing.Union or type(declared).__name__ == "UnionType"
    return get_args(declared) if is_union else (declared,)


def takes_mapping(declared: Any) -> bool:
    """Whether a value of this declared type may be a mapping, such as keyword arguments."""
    origins = {typing.get_origin(one) or one for one in members(declared)}
    return not origins.isdisjoint((Mapping, dict))


def has_method(value: Any, kind: Kind) -> bool:
    """Whether an object or a class has one of the methods of a kind."""
    return any(callable(getattr(value, method, None)) for method in kind.methods)


def is_part_name(text: str) -> bool:
    """Whether a text can be the name of a part of a run: a word, and no path, address or code."""
    return text.isidentifier() and text.isascii()


def takes_part_name(parameter: Parameter) -> bool:
    """Whether an argument takes the name of a part of the run, or a part itself."""
    return str in members(parameter.declared) and kind_of(parameter) is not None


def names_part(kind: Kind, text: str) -> bool:
    """Whether a text in such an argument names a part of the run, and no class or model.

    Raises:
        ConfigError: if it is nearly the name of a class.
    """
    if not is_part_name(text) or text in kind.known or text in (*MODELS, *MODELS_OF_REWARDS):
        return False
    check_spelling(kind, text)
    return True


def check_spelling(kind: Kind, name: str) -> None:
    """Refuses a text that is nearly the name of a class, rather than to look for such a model.

    Raises:
        ConfigError: naming the class.
    """
    near = difflib.get_close_matches(name[:80], list(kind.known), n=1, cutoff=0.8)
    if near and "/" not in name and not os.path.exists(name):
        raise ConfigError(f"no {kind.word} is called {show_name(name)}{suggest(name, kind.known)}")


def _default_of(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _is_one(made: type, kind: Kind) -> bool:
    if "__call__" in kind.methods:  # every class can be called
        return made in kind.known.values()
    return made.__module__ != "builtins" and has_method(made, kind)
