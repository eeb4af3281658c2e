"""Named parts of a run: models and judges beside the policy and the reward.

A strategy or selector says which parts it needs in one of two ways:

* ``needs = {"draft": Policy}``, or ``needs = ("draft",)`` where any kind of part will do: the
  strategy gets each by `Run.part`, as in ``run.part("draft")``.
* ``part_settings = ("judge",)``: the setting `judge` takes the name of a part, or a part itself.
  Before the strategy runs, `bind_parts` puts the run's part there.

Each part of a run is metered and journaled by itself (`Usage.parts`, `Budget.parts`), also one that
was given in a setting, which is then called as the setting is.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Tournament:
    ...     judge: object = "judge"
    ...     part_settings = ("judge",)
    >>> needed_parts(Tournament())
    ('judge',)
    >>> list(given_parts(Tournament(judge=len)))
    ['judge']
"""

import dataclasses
import functools
import typing
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, SimpleNamespace
from typing import Any

from rsalign.core.capabilities import needs, part_settings
from rsalign.core.checks import quote
from rsalign.core.declared import declared_types
from rsalign.core.errors import ConfigError
from rsalign.core.nesting import is_strategy, setting_names
from rsalign.core.protocols import PairwiseReward, Policy, Reward, StepReward


def needed_parts(strategy: object) -> tuple[str, ...]:
    """The names of the parts that a strategy needs, with those of all parts inside it."""
    found: dict[str, None] = {}
    for owner in _owners(strategy):
        found |= dict.fromkeys(needs(owner))
        found |= {value: None for value in _settings(owner).values() if isinstance(value, str)}
    return tuple(found)


def part_types(strategy: object) -> dict[str, tuple[type, ...]]:
    """What each needed part must be (`Policy`, ...), by its name; empty where anything will do.

    Args:
        strategy: a strategy with all parts inside it, or a class alone, with its default settings.

    Example:
        >>> from rsalign import BestOf, Knockout
        >>> [kind.__name__ for kind in part_types(BestOf(select=Knockout(judge="jury")))["jury"]]
        ['PairwiseReward']
    """
    found: dict[str, tuple[type, ...]] = {}
    for owner in [strategy] if isinstance(strategy, type) else _owners(strategy):
        declared = getattr(owner, "needs", ())
        for name in needs(owner):
            found[name] = _members(declared[name]) if isinstance(declared, Mapping) else ()
        for setting, value in _settings(owner).items():
            if isinstance(value, str):
                found[value] = _setting_types(
                    owner if isinstance(owner, type) else type(owner), setting
                )
    return found


def given_parts(strategy: object) -> dict[str, Any]:
    """The parts that a strategy has in its settings already, by a name for each.

    The name is that of the setting; of several different parts the second is ``judge_2``.
    """
    found: dict[str, Any] = {}
    for owner in _owners(strategy):
        for setting, value in _settings(owner).items():
            if isinstance(value, str) or any(value is known for known in found.values()):
                continue
            names = (setting if i == 1 else f"{setting}_{i}" for i in range(1, len(found) + 2))
            found[next(name for name in names if name not in found)] = value
    return found


def collect_parts(strategy: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parts of a run: those of `given` that the strategy needs, and those in its settings.

    Raises:
        ConfigError: if one is missing, is no part, or has a name that a setting's part has.
    """
    require_parts(strategy, given)
    own = given_parts(strategy)
    named = {name: given[name] for name in needed_parts(strategy)}
    if both := own.keys() & named.keys():
        name = min(both)
        raise ConfigError(
            f"{quote(strategy)} has a {name} of its own in one setting and names the part "
            f"{name!r} in another: give both by name, under two names"
        )
    return named | own


def require_parts(strategy: object, given: Mapping[str, Any]) -> None:
    """Refuses a strategy whose parts are not all given, before any work is done.

    Args:
        strategy: the strategy that is to answer.
        given: the parts, by name.

    Raises:
        ConfigError: naming the part that is missing or of another kind, and how one is given.
    """
    check_part_names(strategy, given)
    for name, types in part_types(strategy).items():
        check_part(name, given[name])
        if types and not isinstance(given[name], types):
            raise ConfigError(
                f"{type(strategy).__name__} needs a {' or '.join(one.__name__ for one in types)} "
                f"as the part {name!r}, and {quote(given[name])} is none"
            )


def check_part_names(
    strategy: object, given: Iterable[str], *, refuses_unused: bool = False
) -> None:
    """Refuses a strategy of which a part is missing, by the names alone: nothing is started.

    Args:
        strategy: the strategy that is to answer.
        given: the names of the parts.
        refuses_unused: whether a part that the strategy does not need is refused, too: where no
            other strategy can be asked for, it would be started for nothing.

    Raises:
        ConfigError: naming the part, and what to do.
    """
    needed, names, owner = needed_parts(strategy), list(given), type(strategy).__name__
    if missing := [part for part in needed if part not in names]:
        raise ConfigError(
            f"{owner} needs the part {missing[0]!r}, and the parts given are "
            f"{', '.join(names) or 'none'}: give it by name, parts={{{missing[0]!r}: ...}} in "
            f"Python or --part {missing[0]}=... on a command line, or the part itself in the "
            "strategy's setting, such as judge=..."
        )
    if refuses_unused and (unused := [name for name in names if name not in needed]):
        raise ConfigError(
            f"{owner} does not use the part {unused[0]!r} (it needs "
            f"{', '.join(needed) or 'none'}): leave it out, or name it in a setting of the "
            "strategy that takes a part"
        )


def check_part(name: str, part: object) -> None:
    """Refuses what is neither a policy nor a reward or judge.

    Raises:
        ConfigError: naming the part.
    """
    if isinstance(part, type) or not isinstance(
        part, Policy | Reward | StepReward | PairwiseReward
    ):
        raise ConfigError(
            f"parts={{{name!r}: {quote(part)}}}: give a policy (`extend`), a reward (`score`, "
            "`score_steps`) or a judge of pairs (`prefer`)"
        )


def bind_parts(owner: Any, named: Mapping[str, Any], replaced: Mapping[int, Any]) -> Any:
    """The same strategy with parts of the run in its settings, instead of names and given parts.

    Args:
        owner: a strategy, or anything inside it.
        named: the run's parts, by name.
        replaced: the run's parts, by the id of the part that was given in a setting.
    """
    if not dataclasses.is_dataclass(owner) or isinstance(owner, type):
        return owner
    changed = {
        setting: named[value] if isinstance(value, str) else replaced[id(value)]
        for setting, value in _settings(owner).items()
    }
    for setting, value in _inner(owner):
        bound = bind_parts(value, named, replaced)
        if bound is not value:
            changed[setting] = bound
    return dataclasses.replace(owner, **changed) if changed else owner


def _settings(owner: object) -> dict[str, Any]:
    """The settings that take a part, with their values; None counts as not given."""
    source = _defaults(owner) if isinstance(owner, type) else owner
    values = {setting: getattr(source, setting, None) for setting in part_settings(owner)}
    return {setting: value for setting, value in values.items() if value is not None}


def _defaults(made: type) -> SimpleNamespace:
    """The default values of a dataclass's settings."""
    return SimpleNamespace(**{each.name: each.default for each in dataclasses.fields(made)})


@functools.cache
def _setting_types(made: type, setting: str) -> tuple[type, ...]:
    return _members(declared_types(made).get(setting))


def _members(declared: Any) -> tuple[type, ...]:
    """The kinds of part in a declared type, without the text that names one."""
    members = declared if isinstance(declared, tuple) else typing.get_args(declared) or (declared,)
    return tuple(one for one in members if isinstance(one, type) and one not in (str, NoneType))


def _owners(owner: object) -> Iterator[object]:
    """A strategy and everything inside it that may need parts."""
    yield owner
    for _, value in _inner(owner):
        yield from _owners(value)


def _inner(owner: object) -> Iterator[tuple[str, Any]]:
    """The strategies, selectors and rules that something has as settings."""
    for setting in setting_names(owner):
        value = getattr(owner, setting, None)
        has_settings = dataclasses.is_dataclass(value) or callable(getattr(value, "select", None))
        if isinstance(value, type) or setting in part_settings(owner):
            continue
        if is_strategy(value) or has_settings:
            yield setting, value
