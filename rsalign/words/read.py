"""What settings and requests ask for, read from any of the forms in which they are written.

The same words in five forms::

    {"rsalign": "best_of", "rsalign_n": 8}                 flat keys: extra_args, vllm_xargs
    {"strategy": "best_of", "n": 8}                        an object: JSON, the plug-in's options
    --strategy best_of --set n=8                           the command line
    strategy=best_of n=8                                   lm-eval's --model_args
    {"name": "best_of", "n": 8}                            a node of YAML

A dot reaches into a part (``threshold.target``), and so does an object, in which ``name`` says
which part it is. Beside the parameters of the strategy there are words that every strategy
understands: `RESERVED`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from rsalign.core.budget import Budget
from rsalign.core.declared import declared_types
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.hooks.shared.arguments import KEYS, is_guidance
from rsalign.strategies import STRATEGIES
from rsalign.words.build import NAME, build_strategy
from rsalign.words.messages import guess, show, show_name, suggest
from rsalign.words.values import convert, takes

STRATEGY = "rsalign"
"""The flat key, and the field of a request's body, that names the strategy."""
NO_STRATEGY = "none"
"""Its value for the engine's own sampling."""
PREFIX = "rsalign_"
"""What the flat key of a parameter begins with."""
RESERVED = ("max_tokens", "budget", "on_reward_error", "seed")
"""Words that every strategy understands, beside its own parameters."""

OnRewardError = Literal["fail", "best"]

_NAMES = ("strategy", NAME)
_PARTS = "parts"
_OF_PART: Mapping[str, Any] = {"policy_tokens": int | None, "reward_calls": int | None}
_MOST_LEVELS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """What is asked for: a strategy by name and settings, and what belongs to no strategy.

    The words are checked as far as they can be without knowing the strategy: `strategy` makes it.

    Attributes:
        name: of the strategy; None: the default's, `NO_STRATEGY`: the engine's own sampling.
        settings: the strategy's parameters by dotted name, unconverted.
        max_tokens: bounds the whole response; None: whatever else bounds it.
        budget: the limits that are given, by name.
        on_reward_error: ``"fail"``, or ``"best"`` for the best answer so far; None: not given.
        seed: root of the randomness; None: not given.
    """

    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    on_reward_error: OnRewardError | None = None
    seed: int | None = None

    def strategy(self, default: Strategy | None = None, *, own_classes: bool = True) -> Strategy:
        """The strategy with its settings; `max_tokens` is not applied to it.

        Args:
            default: as in `build_strategy`.
            own_classes: as in `build_strategy`.

        Raises:
            ConfigError: as `build_strategy`.
        """
        return build_strategy(self.name, self.settings, default=default, own_classes=own_classes)

    def within(self, budget: Budget | None) -> Budget:
        """The limits, with those of `budget` where none is given, part by part.

        Raises:
            ConfigError: if a limit is out of range.
        """
        given = {name: value for name, value in self.budget.items() if value is not None}
        kept = {each.name: getattr(budget or Budget(), each.name) for each in fields(Budget)}
        parts = {**kept[_PARTS], **given.get(_PARTS, {})}
        return Budget(**(kept | given | {_PARTS: parts}))

    def joined(self, other: "Specification") -> "Specification":
        """Both together.

        Raises:
            ConfigError: if they differ in anything that both give.
        """
        if None not in (self.name, other.name) and self.name != other.name:
            raise ConfigError(
                f"two strategies are asked for, {show_name(self.name or '')} and "
                f"{show_name(other.name or '')}: name one"
            )
        one, two = self._words(), other._words()
        for key in one.keys() & two.keys():
            _refuse_another(key, one[key], two[key])
        return Specification(
            name=self.name if self.name is not None else other.name,
            settings={**self.settings, **other.settings},
            max_tokens=self.max_tokens if self.max_tokens is not None else other.max_tokens,
            budget={**self.budget, **other.budget},
            on_reward_error=self.on_reward_error or other.on_reward_error,
            seed=self.seed if self.seed is not None else other.seed,
        )

    def given(self) -> tuple[str, ...]:
        """Every word that is given beside the strategy's name, with dots."""
        return tuple(self._words())

    def _words(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in RESERVED if name != "budget"}
        limits = {f"budget.{name}": value for name, value in self.budget.items()}
        given = {name: value for name, value in own.items() if value is not None}
        return {**self.settings, **given, **limits}


def read_flat(extra_args: Mapping[str, Any] | None) -> Specification | None:
    """What flat keys ask for: ``{"rsalign": "best_of", "rsalign_n": 8}``; None if there are none.

    Keys of others are left out. That includes those of the engine's own hooks, such as
    ``rsalign_entropy_threshold`` (`rsalign.hooks.shared.arguments`), and the weights of guides,
    which belong to the law that a strategy draws from (`rsalign.hooks.guided.request`).

    Args:
        extra_args: of a request's `SamplingParams`; over HTTP they are called ``vllm_xargs``.

    Raises:
        ConfigError: if a word cannot be understood.
    """
    ours = {key: value for key, value in (extra_args or {}).items() if is_ours(key)}
    if not ours:
        return None
    named = ours.pop(STRATEGY, None)
    words = {key.removeprefix(PREFIX): value for key, value in ours.items()}
    if isinstance(named, Mapping):
        return read_object(named).joined(read_words(None, words))
    return read_words(named, words)


def read_object(body: Any) -> Specification:
    """What an object, or a mere name, asks for: ``{"strategy": "best_of", "n": 8}``.

    Raises:
        ConfigError: if it is neither, or a word cannot be understood.
    """
    if isinstance(body, Mapping):
        return read_words(None, body)
    if not isinstance(body, str):
        raise ConfigError(
            f"rsalign={show(body)}: give a strategy's name, or an object with 'strategy' and its "
            "parameters"
        )
    return read_words(body, {})


def read_arguments(
    name: str | None, arguments: Iterable[str], flag: str = "--set"
) -> Specification:
    """What ``--strategy NAME --set n=8 --set inner.max_tokens=64`` asks for.

    Raises:
        ConfigError: if an argument is not of the form ``key=value``, a word is given twice with
            different values, or cannot be understood.
    """
    return read_words(name, _table(arguments, flag))


def split(arguments: Iterable[str], flag: str, such_as: str = "n=8") -> Iterator[tuple[str, str]]:
    """``name=value`` as pairs of text.

    Args:
        arguments: of a command line.
        flag: that they were given with, for the message.
        such_as: an example, for the message.

    Raises:
        ConfigError: if one has another form.
    """
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} {show(argument)}: give name=value, such as {flag} {such_as}")
        yield name.strip(), value


def read_table(arguments: Iterable[str], flag: str) -> dict[str, Any]:
    """``["max_model_len=2048"]`` as arguments of an engine, whose types nothing here declares.

    Raises:
        ConfigError: as `split`.
    """
    return {name: guess(value) for name, value in _table(arguments, flag).items()}


def _table(arguments: Iterable[str], flag: str) -> dict[str, str]:
    """The pairs of `split`, of which no two contradict each other."""
    found: dict[str, str] = {}
    for name, value in split(arguments, flag):
        if name in found:
            _refuse_another(name, found[name], value)
        found[name] = value
    return found


def read_words(name: Any, words: Mapping[str, Any]) -> Specification:
    """What a name and words ask for, whatever they were written in.

    Args:
        name: of the strategy, or None.
        words: by (dotted) name; a value is text, an object, or anything else of JSON, YAML or
            Python.

    Raises:
        ConfigError: if a word cannot be understood.
    """
    found = dict(words)
    for word in _NAMES:
        if word in found:
            name = _one_name(name, word, found.pop(word))
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"rsalign={show(name)}: give a strategy's name{suggest('', names())}")
    settings: dict[str, Any] = {}
    for key, value in _flat(found):
        if key in settings:
            _refuse_another(key, settings[key], value)
        settings[key] = value
    max_tokens = settings.pop("max_tokens", None)
    if max_tokens is not None:
        number = convert("max_tokens", max_tokens, int) if takes(int, max_tokens) else 0
        if number < 1:
            raise ConfigError(f"max_tokens={show(max_tokens)}: give a whole number of at least 1")
        max_tokens = number
    seed = convert("seed", settings.pop("seed", None), int | None)
    on_reward_error = settings.pop("on_reward_error", None)
    if on_reward_error is not None:
        on_reward_error = convert("on_reward_error", on_reward_error, OnRewardError)
    return Specification(
        name=None if name is None else name.strip(),
        budget=_limits(settings),
        max_tokens=max_tokens,
        seed=seed,
        on_reward_error=on_reward_error,
        settings=settings,
    )


def names() -> tuple[str, ...]:
    """What can be asked for by name."""
    return (*STRATEGIES, NO_STRATEGY)


def is_ours(key: Any) -> bool:
    """Whether a key of `extra_args` names a strategy, or a parameter of one."""
    if not isinstance(key, str) or key in KEYS or is_guidance(key):
        return False
    return key == STRATEGY or key.startswith(PREFIX)


def _refuse_another(key: str, one: Any, other: Any) -> None:
    """Refuses a word that is given twice, unless both mean the same: 3 and "3", true and "True".

    Raises:
        ConfigError: with both values.
    """
    meant = [guess(value) if isinstance(value, str) else value for value in (one, other)]
    is_truth = [isinstance(value, bool) for value in meant]  # in Python, True is 1
    if meant[0] != meant[1] or is_truth[0] != is_truth[1]:
        raise ConfigError(
            f"{show_name(key)} is given twice, as {show(one)} and as {show(other)}: give it once"
        )


def _one_name(name: Any, word: str, other: Any) -> Any:
    if other is None or name == other:
        return name
    if not isinstance(other, str):
        raise ConfigError(f"{word}={show(other)}: give a strategy's name{suggest('', names())}")
    if name is not None:
        raise ConfigError(f"two strategies are asked for, {show(name)} and {show(other)}: name one")
    return other


def _limits(settings: dict[str, Any]) -> dict[str, Any]:
    """Takes the limits of the budget out of settings, converted; those of parts as one mapping."""
    types = {name: type_ for name, type_ in declared_types(Budget).items() if name != _PARTS}
    found: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for key in [key for key in settings if key.partition(".")[0] == "budget"]:
        value, (_, _, limit) = settings.pop(key), key.partition(".")
        if not limit or limit == _PARTS:
            if value is None or value == {}:
                continue
            raise ConfigError(
                f"{key}={show(value)}: give its limits by name, such as "
                f"{'budget.parts.judge.reward_calls=8' if limit else 'budget.seconds=10'}"
                f"{suggest('', types)}"
            )
        known, words = (types, limit) if not limit.startswith(f"{_PARTS}.") else (_OF_PART, "")
        if not words:
            part, _, words = limit.removeprefix(f"{_PARTS}.").rpartition(".")
        if words not in known:
            raise ConfigError(f"the budget has no limit {show_name(limit)}{suggest(words, known)}")
        limits = found if known is types else parts.setdefault(part, {})
        limits[words] = convert(key, value, known[words])
    given = {name: value for name, value in found.items() if value is not None}
    Budget(**(given | {_PARTS: parts}))
    return found | ({_PARTS: parts} if parts else {})


def _flat(words: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Objects as dotted names; ``select.name`` says which part it is, as ``select`` does."""
    for key, value in words.items():
        name = f"{path}.{key}" if path else str(key)
        name = name.removesuffix(f".{NAME}")
        if name.count(".") >= _MOST_LEVELS:
            raise ConfigError(f"{show_name(name)}: parts are nested {_MOST_LEVELS} deep at most")
        if isinstance(value, str) and value.lstrip()[:1] == "{":
            meant = guess(value)
            value = meant if isinstance(meant, Mapping) else value
        if not isinstance(value, Mapping) or not value:
            yield name, value
        elif name == path:
            raise ConfigError(f"{show_name(name)}: give the name of a part as text")
        else:
            yield from _flat(value, name)
