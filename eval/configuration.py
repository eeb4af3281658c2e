"""From a configuration to objects: a leaf is a constructor's argument, and nothing else.

Only what lies in this repository can be named, everything is checked before anything is built, and
an unknown name comes with the nearest that there is.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rsalign import ConfigError
from rsalign.words.build import construct
from rsalign.words.messages import suggest

_ALLOWED = ("rsalign.", "eval.")
_NOT_HASHED = (
    "experiment",
    "experiment_name",
    "output",
    "tracker",
    "journal",
    "tokens",
    "workers",
    "hydra",
)
"""What does not change any draw or grade."""


def build(config: Any, where: str = "config") -> Any:
    """Builds the object that a node of a configuration describes.

    A mapping with ``_target_`` becomes a call of that class or function with the other entries as
    arguments; lists become tuples; everything else is itself. What a dataclass takes is read
    as at every door: text that is a number is one, and a part may be named, as in
    ``select: hard``.

    Args:
        config: a node; its interpolations are resolved.
        where: its place, for messages.

    Raises:
        ConfigError: if a target lies elsewhere than in `rsalign.` or `eval.`, or does not exist, or
            an argument is unknown, missing or refused; before anything is built.
    """
    return _built(check_node(config, where), where)


def check_node(config: Any, where: str) -> Any:
    """Checks a node as `build` does, and builds nothing.

    Args:
        config: a node.
        where: its place, for messages.

    Returns:
        The node in plain containers, its interpolations resolved.

    Raises:
        ConfigError: as `build`, if a target or the name of an argument is wrong.
    """
    plain = resolve(config, where)
    for path, node in find_targets(plain, where):
        _check(path, node)
    return plain


def resolve(config: Any, where: str = "config") -> Any:
    """Converts a node to plain containers, with all interpolations resolved.

    Raises:
        ConfigError: if one points nowhere, or a value is missing (``???``).
    """
    if not isinstance(config, DictConfig | ListConfig):
        return config
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {_reason(error)}") from error


def _reason(error: OmegaConfBaseException) -> BaseException:
    """What a function that a YAML file calls refused, or else the error itself."""
    within: BaseException | None = error
    while within is not None:
        if isinstance(within, ConfigError):
            return within
        within = within.__context__
    return error


def hash_config(config: DictConfig) -> str:
    """Hashes what determines draws and grades, so that it tells configurations apart."""
    plain = resolve(config)
    kept = {name: value for name, value in plain.items() if name not in _NOT_HASHED}
    if not kept.get("parts"):
        kept.pop("parts", None)  # records of configurations before there were parts go on
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def find_targets(node: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields all nodes with a ``_target_`` and their places, inner ones first."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from find_targets(value, f"{where}.{name}")
        if "_target_" in node:
            yield where, node
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from find_targets(value, f"{where}[{i}]")


def check_origin(where: str, target: object, allowed: tuple[str, ...] = _ALLOWED) -> None:
    """Refuses a target whose name says that it lies elsewhere.

    Args:
        where: the place of its node, for the message.
        target: what ``_target_`` is.
        allowed: what it may begin with.

    Raises:
        ConfigError: if it does not.
    """
    if not isinstance(target, str) or not target.startswith(allowed):
        raise ConfigError(
            f"{where}._target_={target!r}: only what begins with {' or '.join(allowed)} may be "
            "named here"
        )


def import_target(where: str, target: Any, allowed: tuple[str, ...] = _ALLOWED) -> Any:
    """Imports what a target names, without calling it.

    A name may lead out again, by way of what a module has imported (``eval.host.os.system``): what
    is found must have been made at home, too.

    Args:
        where: as `check_origin`, and so the others.
        target: see there.
        allowed: see there.

    Raises:
        ConfigError: if it lies elsewhere or does not exist.
    """
    check_origin(where, target, allowed)
    try:
        found = get_object(target)
    except (HydraException, ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}._target_={target!r} cannot be found: {error}") from error
    home = str(getattr(found, "__module__", ""))
    if not f"{home}.".startswith(allowed):
        raise ConfigError(
            f"{where}._target_={target!r} is from {home or 'nowhere'}: only what was made in "
            f"{' or '.join(allowed)} may be named here"
        )
    return found


def _check(where: str, node: Mapping[str, Any]) -> None:
    target = node["_target_"]
    check_origin(where, target)
    if any(part.startswith("_") for part in target.split(".")):
        raise ConfigError(f"{where}._target_={target!r}: names with an underscore are not public")
    found = import_target(where, target)
    if not callable(found):
        raise ConfigError(f"{where}._target_={target!r} cannot be called")
    parameters = inspect.signature(found).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    given = {name for name in node if name != "_target_"}
    for name in sorted(given - set(parameters)):
        raise ConfigError(
            f"{where}.{name}: {target} has no such setting{suggest(name, parameters)}"
        )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise ConfigError(f"{where}.{name} is missing: {target} needs it")


def _built(node: Any, where: str) -> Any:
    if isinstance(node, Mapping):
        values = {
            name: _built(value, f"{where}.{name}")
            for name, value in node.items()
            if name != "_target_"
        }
        if "_target_" not in node:
            return values
        try:
            found = get_object(node["_target_"])
            if (
                isinstance(found, type)
                and is_dataclass(found)
                and found.__module__.startswith(_ALLOWED)
            ):
                return construct(found, values)
            return found(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if isinstance(node, list | tuple):
        return tuple(_built(value, f"{where}[{i}]") for i, value in enumerate(node))
    return node
