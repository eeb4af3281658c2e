"""Which of a classifier's labels is the reward: one of them, a weighted sum, or log-odds.

A reward model has one label, whose logit is the reward. A classifier (harmless or harmful, five
aspects of an answer) has several, and only its user knows which of them is good. So a model with
several labels is refused unless `label` is given.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.types import Scored

LabelSetting: TypeAlias = int | str | Sequence[float] | Mapping[str, Any] | None
"""How a user says which label is the reward; see `LabelChoice.of`."""

_MOST_COMPONENTS = 64
_ODDS = ("log_odds", "probability")
_EXAMPLES = (
    "give label= the index of a label, its name, a weight for each label ([0.5, 0.5] or "
    '{"helpful": 1.0}), {"log_odds": "good"} or {"log_odds": ["good", "bad"]}'
)
_LABELS_OF_CLASSES: Mapping[str, int] = {
    "Qwen2ForRewardModel": 1,
    "InternLM2ForRewardModel": 1,
    "Qwen2ForProcessRewardModel": 2,
}
"""Number of labels of classes that have it in their code, and not in `config.json`."""
_DEFAULT_NUM_LABELS = 2  # of transformers, where config.json says nothing


def label_names(config: Any) -> tuple[str, ...]:
    """Returns the names of a model's labels, from its Hugging Face configuration.

    A composite configuration may say it of the whole model or of its text model, and has the
    default of two labels in the other.

    Args:
        config: a `transformers.PretrainedConfig`.

    Example:
        >>> from types import SimpleNamespace
        >>> label_names(SimpleNamespace(num_labels=2, id2label={0: "bad", 1: "good"}))
        ('bad', 'good')
    """
    for name in getattr(config, "architectures", None) or ():
        if name in _LABELS_OF_CLASSES:
            return default_names(_LABELS_OF_CLASSES[name])
    if config.num_labels == _DEFAULT_NUM_LABELS and hasattr(config, "get_text_config"):
        inner = config.get_text_config()
        if inner.num_labels != _DEFAULT_NUM_LABELS:
            config = inner
    usual = default_names(config.num_labels)
    given = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return tuple(given.get(index, name) for index, name in enumerate(usual))


def default_names(num_labels: int) -> tuple[str, ...]:
    """Returns the names that transformers gives to labels without names."""
    return tuple(f"LABEL_{index}" for index in range(num_labels))


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Computes the reward from the logits of one sequence, or of one token.

    Attributes:
        model: the model's name, for messages.
        kind: ``"weights"``: the sum of weight times logit; ``"log_odds"`` and ``"probability"``:
            of the labels with a positive weight against those with a negative one, nats.
        weights: one for each label.
        names: of the labels; their logits are the components of the reward if there are several.

    Example:
        >>> reader = LabelChoice.of({"log_odds": "good"}).reader("org/two", ("bad", "good"))
        >>> reader.read((0.5, 2.0))
        1.5
    """

    model: str
    kind: Literal["weights", "log_odds", "probability"]
    weights: tuple[float, ...]
    names: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Identifies it in a journal; empty where the model has one label, which is the reward."""
        plain = self.kind == "weights" and self.weights == (1.0,)
        return "" if plain else f" {self.kind} of labels {self.weights}"

    def read(self, logits: Sequence[float]) -> float:
        """Returns the reward.

        Args:
            logits: raw, ``(labels,)``.

        Raises:
            ConfigError: if the model has another number of labels than its configuration says.
        """
        if len(logits) != len(self.weights):
            raise ConfigError(
                f"{self.model} returns {len(logits)} values, but its configuration has "
                f"{len(self.weights)} labels: correct num_labels in its config.json, or give "
                f'hf_overrides={{"num_labels": {len(logits)}}} where vLLM starts it'
            )
        if self.kind == "weights":
            pairs = zip(self.weights, logits, strict=True)
            return math.fsum(weight * logit for weight, logit in pairs if weight)
        odds = self._log_sum(logits, sign=1) - self._log_sum(logits, sign=-1)
        if self.kind == "log_odds":
            return odds
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))

    def scored(self, logits: Sequence[float], tokens: int = 0, cached_tokens: int = 0) -> Scored:
        """Returns the reward with its cost, and the logit of each label as a component.

        A model of more than 64 labels has the components of those that the reward is made of.

        Raises:
            ConfigError: as `read`.

        Example:
            >>> reader = LabelChoice.of([0.5, 0.5]).reader("org/two", ("helpful", "harmless"))
            >>> reader.scored((1.0, 3.0)), reader.scored((1.0, 3.0)).parts["harmless"]
            (2.0, 3.0)
        """
        value = self.read(logits)
        shown = enumerate(self.names) if len(self.names) > 1 else ()
        parts = {
            name: float(logits[index])
            for index, name in shown
            if self.weights[index] or len(self.names) <= _MOST_COMPONENTS
        }
        return Scored(value, tokens=tokens, cached_tokens=cached_tokens, parts=parts)

    def _log_sum(self, logits: Sequence[float], *, sign: int) -> float:
        """Ln of the sum of exp(logit), over the labels of one side."""
        side = [one for one, weight in zip(logits, self.weights, strict=True) if weight * sign > 0]
        highest = max(side)
        return highest + math.log(math.fsum(math.exp(one - highest) for one in side))


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """What a user said of the labels, before the model's labels are known.

    Attributes:
        kind: ``"only"``: the model has one label; ``"each"``: a weight for each label, in order;
            ``"weights"``: weights by label; ``"log_odds"`` and ``"probability"``: of the first
            label of `terms`, against the second or, if there is no second, all others.
        terms: labels, by index or name, with their weights.

    Example:
        >>> LabelChoice.of("helpful").reader("org/rm", ("helpful", "verbose")).read((0.5, -1.0))
        0.5
        >>> LabelChoice.of(None).reader("org/rm", ("helpful", "verbose"))
        Traceback (most recent call last):
        rsalign.core.errors.ConfigError: org/rm has num_labels=2 (0: 'helpful', 1: 'verbose'), but \
a reward is one number: give label= the index of a label, its name, a weight for each label \
([0.5, 0.5] or {"helpful": 1.0}), {"log_odds": "good"} or {"log_odds": ["good", "bad"]}
    """

    kind: Literal["only", "each", "weights", "log_odds", "probability"]
    terms: tuple[tuple[int | str, float], ...] = ()

    @classmethod
    def of(cls, given: LabelSetting) -> "LabelChoice":
        """Reads what a user gave, as a Python value or as JSON or YAML has it.

        Args:
            given: None: the model has one label; an index or a name: this label's logit; a sequence
                of numbers: a weight for each label; a mapping: weights by name or index, other
                labels have 0; ``{"log_odds": label}``: the label's log-odds against all others
                (softmax), nats; ``{"log_odds": [label, other]}``: against one other;
                ``{"probability": ...}``: the same as a probability.

        Raises:
            ConfigError: if it is none of these.
        """
        if given is None:
            return cls("only")
        if _is_label(given):
            return cls("weights", ((_label(given), 1.0),))
        if isinstance(given, Mapping) and len(given) == 1 and next(iter(given)) in _ODDS:
            ((kind, sides),) = given.items()
            labels = [sides] if _is_label(sides) else sides
            fits = isinstance(labels, list | tuple) and len(labels) in (1, 2)
            if not fits or not all(map(_is_label, labels)):
                raise _no_choice(given)
            signed = zip(map(_label, labels), (1.0, -1.0), strict=False)
            return cls("log_odds" if kind == "log_odds" else "probability", tuple(signed))
        terms: list[tuple[Any, Any]]
        if isinstance(given, Mapping):
            terms = [*given.items()]
        elif isinstance(given, Sequence):
            terms = [*enumerate(given)]
        else:
            raise _no_choice(given)
        read = tuple(
            (_label(label), _weight(weight)) for label, weight in terms if _is_label(label)
        )
        if not terms or len(read) != len(terms) or not all(math.isfinite(w) for _, w in read):
            raise _no_choice(given)
        return cls("weights" if isinstance(given, Mapping) else "each", read)

    def reader(self, model: str, names: Sequence[str]) -> LabelReader:
        """Returns what computes the reward of a model with these labels.

        Args:
            model: the model's name, for messages.
            names: of its labels, in the order of the logits.

        Raises:
            ConfigError: if the model has no such label, or several and none was chosen.
        """
        has = f"{model} has num_labels={len(names)} ({_listed(names)})"
        if self.kind == "only" and len(names) != 1:
            raise ConfigError(f"{has}, but a reward is one number: {_EXAMPLES}")
        if self.kind == "each" and len(self.terms) != len(names):
            raise ConfigError(f"{has}, but label has {len(self.terms)} weights: give one for each")
        weights = [0.0] * len(names)
        for label, weight in self.terms:
            index = _index(label, names)
            if index is None or weights[index]:
                fault = "but no" if index is None else "and twice a"
                raise ConfigError(f"{has}, {fault} label {label!r}: {_EXAMPLES}")
            weights[index] = weight
        if self.kind == "only":
            weights = [1.0]
        if self.kind not in _ODDS:
            return LabelReader(model, "weights", tuple(weights), tuple(names))
        if len(names) == 1:
            raise ConfigError(f"{has}, whose logit has no other to be compared with: give no label")
        if len(self.terms) == 1:
            weights = [weight or -1.0 for weight in weights]
        return LabelReader(model, self.kind, tuple(weights), tuple(names))  # type: ignore[arg-type]


def _index(label: int | str, names: Sequence[str]) -> int | None:
    """The index of a label; a name that is a number stands for an index if no label has it."""
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, str):
        if not label.isdecimal():
            return None
        label = int(label)
    return label if 0 <= label < len(names) else None


def _is_label(given: Any) -> bool:
    is_index = isinstance(given, Integral) and not isinstance(given, bool)
    return is_index or (isinstance(given, str) and bool(given))


def _label(given: Any) -> int | str:
    return given if isinstance(given, str) else int(given)


def _weight(given: Any) -> float:
    """A number, also as text, as command lines have it; NaN if it is none."""
    if isinstance(given, bool) or not isinstance(given, Real | str):
        return math.nan
    try:
        return float(given)
    except ValueError:
        return math.nan


def _listed(names: Sequence[str]) -> str:
    shown = [f"{index}: {name!r}" for index, name in enumerate(names[:32])]
    return ", ".join([*shown, "..."] if len(names) > len(shown) else shown)


def _no_choice(given: Any) -> ConfigError:
    return ConfigError(f"label={quote(given)} says of no label that it is the reward: {_EXAMPLES}")
