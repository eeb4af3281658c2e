"""Named parts of a run from whatever names them: ``judge=pairwise_judge``, the same at every door.

A part is a policy, a reward or a judge (`PART_KINDS`). It is given as an object, as the name of a
class with settings, or as text that `rsalign.words.models` reads. In text::

    --part judge=pairwise_judge --part judge.policy=org/judge-model
    --part draft=org/small-model --part draft.max_model_len=2048

Of which kind a part is follows from what names it: a class (``pairwise_judge`` is a judge), an
object of one's own, or else the strategy that needs it. The word ``kind`` says it where neither
does: ``--part helper=org/model --part helper.kind=policy``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.parts import check_part, part_types
from rsalign.core.protocols import PairwiseReward, Policy, Reward, StepReward, Strategy
from rsalign.rewards.parts import close_all
from rsalign.selectors import SELECTORS
from rsalign.strategies import STRATEGIES
from rsalign.words.build import NAME, PartBuilder
from rsalign.words.messages import clip, guess, show, show_name
from rsalign.words.models import POLICIES, REWARDS, is_reference, is_vllm, load
from rsalign.words.read import split
from rsalign.words.registry import KINDS, check_spelling, is_part_name

PartLike: TypeAlias = "Policy | Reward | StepReward | PairwiseReward | str | Mapping[str, Any]"
"""A part, or what names one (see `start_parts`)."""
PART_KINDS: Mapping[str, tuple[type, ...]] = {
    "policy": (Policy,),
    "reward": (Reward, StepReward),
    "judge": (PairwiseReward,),
}
"""The kinds of parts that a run can have, with what an object of each can do."""

_KIND = "kind"
_RESERVED = ("policy", "reward", "strategy", "none")
_EXAMPLE = "judge=pairwise_judge, with settings as judge.policy=org/model"
_HINT = f"such as {_EXAMPLE}"


@dataclass(frozen=True, slots=True)
class StartedParts:
    """Named parts, and what was started for them.

    Attributes:
        parts: by name.
        opened: what `close` closes: parts that were made here, and engines that were started.
    """

    parts: Mapping[str, Any]
    opened: tuple[Any, ...] = ()

    def close(self) -> None:
        """Closes what was started here; parts that were given ready-made stay open."""
        close_all(self.opened)


def read_parts(arguments: Iterable[str], flag: str = "--part") -> dict[str, Any]:
    """Parts as text: ``["judge=pairwise_judge", "judge.policy=org/model"]``.

    Raises:
        ConfigError: if an argument is not of the form ``name=value``, a word is given twice, or a
            part cannot have this name.

    Example:
        >>> read_parts(["judge=pairwise_judge", "judge.policy=org/model"])
        {'judge': {'name': 'pairwise_judge', 'policy': 'org/model'}}
        >>> read_parts(["draft=org/model"])
        {'draft': 'org/model'}
    """
    words: dict[str, str] = {}
    for key, value in split(arguments, flag, _EXAMPLE):
        if words.setdefault(key, value) != value:
            raise ConfigError(
                f"{flag} {show_name(key)} is given twice, as {show(words[key])} and as "
                f"{show(value)}: give it once"
            )
    return read_part_words(words)


def read_part_words(given: Any) -> dict[str, Any]:
    """Parts by name from words, which may have dots, or from an object of objects.

    Args:
        given: None, a mapping, or JSON text of one.

    Raises:
        ConfigError: if it is none, or a part cannot have its name.
    """
    if isinstance(given, str):
        given = guess(given)
    if given is None or given == "":
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"parts={show(given)}: give parts by name, {_HINT}")
    found: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        name, dot, setting = str(key).partition(".")
        check_name(name)
        if dot:
            settings.setdefault(name, {})[setting] = value
        else:
            found[name] = value
    for name, own in settings.items():
        whole = found.get(name)
        if isinstance(whole, str) and whole.lstrip()[:1] == "{":
            whole = guess(whole)
        if isinstance(whole, Mapping):
            found[name] = {**whole, **own}
        elif isinstance(whole, str):
            found[name] = {NAME: whole, **own}
        else:
            raise ConfigError(f"part {name}: {show(own)} are settings of nothing: give {name}= too")
    return found


def check_name(name: str) -> None:
    """Refuses a name that could be taken for something else.

    Raises:
        ConfigError: saying why.
    """
    if not is_part_name(name):
        raise ConfigError(
            f"a part cannot be called {show_name(name)}: give it a name of letters, digits and _, "
            f"{_HINT}"
        )
    taken = {*_RESERVED, *POLICIES, *REWARDS, *(one for kind in PART_KINDS for one in _known(kind))}
    if name in taken:
        raise ConfigError(
            f"a part cannot be called {name!r}, which has a meaning already where a part is "
            "named: give it another name"
        )


def start_parts(
    given: Mapping[str, Any],
    strategy: Strategy | None = None,
    policy: Callable[[], Any] | None = None,
) -> StartedParts:
    """The parts that are named; parts that name the same model share its engine.

    Args:
        given: by name, each an object; the name of a class of policies, rewards or judges; an
            object of its settings, ``{"name": "pairwise_judge", "policy": ...}``, with ``kind``
            where nothing else says which it is; ``module:name`` of one's own; or a model or the
            address of a server, as `rsalign.words.models` reads them.
        strategy: that needs them; None: any.
        policy: returns the policy that draws the answers, which a part may use by the name
            ``policy``; called only if one does.

    Raises:
        ConfigError: if one cannot be made, or it is not clear of which kind it is. What was started
            is closed then.

    Example:
        >>> from rsalign.testing import ToyReward
        >>> start_parts({"check": ToyReward(), "other": "rsalign.testing:ToyReward"}).parts
        {'check': ToyReward(salt=0), 'other': ToyReward(salt=0)}
    """
    builder = PartBuilder(own_classes=True, drawing_policy=policy)
    wanted = declared_types() | (part_types(strategy) if strategy is not None else {})
    parts: dict[str, Any] = {}
    opened: list[Any] = []
    try:
        for name, value in given.items():
            check_name(name)
            try:
                parts[name], is_ours = _start(name, value, wanted.get(name, ()), builder)
            except ConfigError as error:
                raise ConfigError(f"part {name!r}: {error}") from error
            if is_ours:
                opened.append(parts[name])
            check_part(name, parts[name])
    except BaseException:
        close_all(_distinct([*builder.started.values(), *opened]))
        raise
    return StartedParts(parts, _distinct([*builder.started.values(), *opened]))


def declared_types() -> dict[str, tuple[type, ...]]:
    """What each part must be that a strategy or selector with a name in a registry declares."""
    found: dict[str, tuple[type, ...]] = {}
    for made in (*STRATEGIES.values(), *SELECTORS.values()):
        found |= {name: types for name, types in part_types(made).items() if types}
    return found


def _start(
    name: str, given: Any, wanted: tuple[type, ...], builder: PartBuilder
) -> tuple[Any, bool]:
    """A part, and whether it was made here."""
    said, settings = None, {}
    if isinstance(given, str) and given.lstrip()[:1] == "{":
        given = guess(given)
    if isinstance(given, Mapping):
        settings = {key: value for key, value in given.items() if key not in (NAME, _KIND)}
        said = _said_kind(given)
        given = given.get(NAME, "")
        if not isinstance(given, str):
            raise ConfigError(f"{NAME}={show(given)}: give the name of a class or a model as text")
    if isinstance(given, str):
        text = given.strip()
        if not text:
            raise ConfigError(f"nothing says what it is: give a class or a model, {_HINT}")
        if is_reference(text):
            return _load(text, settings, said)
        kind = said or _kind_of(name, text, wanted)
        made = builder.build(KINDS[kind], text, settings, None)
        return made, text != "policy"
    if is_vllm(given):
        return KINDS[_wanted_kind(name, given, wanted)].make(given, {}), True  # type: ignore[misc]
    if _kinds_of(given) or isinstance(given, type) or not callable(given):
        return given, False  # `check_part` refuses what is none
    return KINDS["reward"].make(given, {}), False  # type: ignore[misc]


def _load(text: str, settings: Mapping[str, Any], said: str | None) -> tuple[Any, bool]:
    """A part of the user's own: an object, or what a class or a function makes."""
    found = load("part", text)
    kinds = [said] if said else _kinds_of(found)
    if isinstance(found, type):
        if settings or kinds:
            return _call(found, text, settings), True
    elif settings:
        raise ConfigError(f"{text} exists already and takes no settings: {show(dict(settings))}")
    if not kinds and not callable(found):
        raise ConfigError(f"{text} is a {type(found).__name__}, and no policy, reward or judge")
    if kinds and kinds[0] in ("policy", "judge"):
        return found, False
    return KINDS["reward"].make(found, {}), False  # type: ignore[misc]


def _call(made: type, text: str, settings: Mapping[str, Any]) -> Any:
    values = {
        key: guess(value) if isinstance(value, str) else value for key, value in settings.items()
    }
    try:
        return made(**values)
    except TypeError as error:
        raise ConfigError(f"{text}: {error}") from error


def _said_kind(given: Mapping[str, Any]) -> str | None:
    said = given.get(_KIND)
    if said is not None and said not in PART_KINDS:
        raise ConfigError(f"{_KIND}={show(said)}: give {' or '.join(PART_KINDS)}")
    return said


def _kind_of(name: str, text: str, wanted: tuple[type, ...]) -> str:
    """Of which kind a text is, or what the strategy that needs the part wants it to be."""
    if text == "policy":
        return "policy"
    kinds = [kind for kind in PART_KINDS if text in _known(kind)]
    if len(kinds) == 1:
        return kinds[0]
    for kind in PART_KINDS:
        if not kinds:
            check_spelling(KINDS[kind], text)
    return _wanted_kind(name, text, wanted)


def _wanted_kind(name: str, given: Any, wanted: tuple[type, ...]) -> str:
    kinds = [kind for kind, types in PART_KINDS.items() if set(types) & set(wanted)]
    if kinds == ["judge"]:
        raise ConfigError(
            f"{quote(given)} is a model, and a judge of pairs is needed: give "
            f"{name}=pairwise_judge and {name}.policy={clip(str(given), 80)}"
        )
    if len(kinds) != 1:
        raise ConfigError(
            f"it is not clear of which kind {quote(given)} is: give {name}.{_KIND}=policy if it "
            f"draws, or {name}.{_KIND}=reward if it judges"
        )
    return kinds[0]


def _kinds_of(found: Any) -> list[str]:
    """The kinds of part that an object, or what a class makes, can be."""
    return [word for word in PART_KINDS if _has_method(found, word)]


def _has_method(found: Any, word: str) -> bool:
    methods = ("extend",) if word == "policy" else KINDS[word].methods
    return any(callable(getattr(found, method, None)) for method in methods)


def _known(kind: str) -> Mapping[str, Any]:
    return KINDS[kind].known


def _distinct(made: Iterable[Any]) -> tuple[Any, ...]:
    """Each object once; the last are closed first."""
    return tuple({id(one): one for one in made}.values())
