"""Every kind of part that settings can name, with the names of those that ship with rsalign."""

import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass
from typing import Any, get_args

from rsalign.chains.beta_rules import BETA_RULES, BetaRule
from rsalign.chains.cuts import CUTS, CutLaw
from rsalign.chains.stopping import STOPPING, Stopping
from rsalign.core.protocols import Boundary, PairwiseReward, Policy, Reward, Strategy
from rsalign.segments import SEGMENTERS
from rsalign.segments.acceptance import ACCEPTANCES, Acceptance
from rsalign.segments.thresholds import THRESHOLDS, Threshold
from rsalign.selectors import SELECTORS, Selector
from rsalign.selectors.extraction import EXTRACTORS, Extract
from rsalign.selectors.utilities import UTILITIES, Utility
from rsalign.strategies import STRATEGIES

METADATA = "kind"
"""Key of a field's metadata that names its kind, where the declared type does not tell it:
``field(metadata={"kind": "judge"})``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of part.

    Attributes:
        word: its name, in `KINDS`, in field metadata and in messages.
        known: the parts that have a name of their own.
        method: what an object of this kind must have.
        declared: the type that a field of this kind is declared as.
        default: the part that settings such as ``segmenter.n=16`` refer to where neither a name is
            given nor the field has a default; empty: there is none.
        example: a setting that names one, for messages, with ``{}`` for the field.
    """

    word: str
    known: Mapping[str, Any]
    method: str
    declared: Any
    default: str = ""
    example: str = ""


KINDS: Mapping[str, Kind] = {
    kind.word: kind
    for kind in (
        Kind("strategy", STRATEGIES, "sample", Strategy, "plain", "{}=plain"),
        Kind("selector", SELECTORS, "select", Selector, "", "{}=majority_vote"),
        Kind("cut law", CUTS, "weights", CutLaw, "uniform", "{}=uniform"),
        Kind("stopping rule", STOPPING, "enough", Stopping, "", "{}=decided_lead"),
        Kind("rule for beta", BETA_RULES, "beta", BetaRule, "", "{}=target_kl"),
        Kind("extractor", EXTRACTORS, "__call__", Extract, "", "{}=last_number"),
        Kind("utility", UTILITIES, "__call__", Utility, "", "{}=rouge_1"),
        Kind("segmenter", SEGMENTERS, "ends_before", Boundary, "fixed_size", "{}.n=16"),
        Kind("threshold", THRESHOLDS, "at", Threshold, "line", "{}.target=1.5"),
        Kind("acceptance", ACCEPTANCES, "log_accept", Acceptance, "soft", "{}=soft"),
        Kind("judge", {}, "prefer", PairwiseReward),
        Kind("reward", {}, "score", Reward),
        Kind("policy", {}, "extend", Policy),
    )
}
"""By word."""


def kind_of(field: "Field[Any]", declared: Any) -> Kind | None:
    """The kind of part that a field takes; None if it takes a plain value.

    It is told by the field's metadata, by its declared type (`Strategy`, or a class of one such as
    `Cards`), or, where that says nothing, by what its default is.
    """
    if METADATA in field.metadata:
        return KINDS[field.metadata[METADATA]]
    for member in members(declared):
        for kind in KINDS.values():
            if member == kind.declared or (isinstance(member, type) and _is_one(member, kind)):
                return kind
    if declared is Any:
        default = default_of(field)
        return next((kind for kind in KINDS.values() if _is_one(type(default), kind)), None)
    return None


def default_of(field: "Field[Any]") -> Any:
    """The value of a field that is not given; None if it must be given."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def members(declared: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type itself."""
    origin = typing.get_origin(declared)
    is_union = origin is typing.Union or type(declared).__name__ == "UnionType"
    return get_args(declared) if is_union else (declared,)


def _is_one(made: type, kind: Kind) -> bool:
    if kind.method == "__call__":  # every class can be called
        return made in kind.known.values()
    return made.__module__ != "builtins" and callable(getattr(made, kind.method, None))
