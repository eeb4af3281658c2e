"""The command line's overrides, looked at before Hydra does: an unknown name gets a near one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from eval.configuration import nearest
from rsalign import ConfigError

CONF = Path(__file__).parent.parent / "conf"


def quoted(arguments: Sequence[str]) -> list[str]:
    """The command line with choices that are numbers in quotes: Hydra takes only words for them.

    >>> quoted(["budget=4,16", "strategy.n=4"])
    ["budget='4','16'", 'strategy.n=4']
    """

    def one(argument: str) -> str:
        name, _, value = argument.partition("=")
        if not value or not (CONF / name).is_dir():
            return argument
        return f"{name}=" + ",".join(
            f"'{choice}'" if choice.isdecimal() else choice for choice in value.split(",")
        )

    return [one(argument) for argument in arguments]


def check(arguments: Sequence[str], config_name: str = "config") -> None:
    """Refuses an override of a setting or of a choice that there is not.

    Args:
        arguments: the command line without the program and its flags.
        config_name: the file of ``conf/`` that they override.

    Raises:
        ConfigError: with the nearest valid name.
    """
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    groups = {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()}
    chosen: list[str] = []
    settings: list[str] = []
    for override in overrides:
        name = override.key_or_group
        if name in groups:
            choices = [path.stem for path in (CONF / name).glob("*.yaml")]
            for choice in _values(override):
                if choice not in (*choices, "null"):
                    raise ConfigError(f"{name}={choice}: {nearest(choice, choices)}")
            chosen += quoted([f"{name}={_values(override)[0]}"])
        elif not (override.is_add() or override.is_force_add() or name.startswith("hydra.")):
            settings.append(name)
    known = _names(composed(chosen, config_name))
    for name in settings:
        if name not in known:
            raise ConfigError(f"{name}: {nearest(name, [*known, *groups])}")


def composed(overrides: Sequence[str], config_name: str = "config") -> DictConfig:
    """The configuration that these overrides make, without running anything."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config_name, overrides=quoted(overrides))


def _values(override: Any) -> list[str]:
    def word(choice: Any) -> str:
        return str(getattr(choice, "text", choice))  # a quoted string says so

    if override.is_sweep_override():
        return [word(one).strip("'") for one in override.sweep_iterator()]
    value = override.value()
    return [word(one) for one in value] if isinstance(value, list) else [word(value)]


def _names(config: DictConfig, prefix: str = "") -> list[str]:
    """All paths of a configuration, inner nodes included."""
    names = []
    plain = OmegaConf.to_container(config, resolve=False)
    stack: list[tuple[str, Any]] = [(prefix, plain)]
    while stack:
        path, node = stack.pop()
        if path:
            names.append(path)
        if isinstance(node, dict):
            stack += [(f"{path}.{key}" if path else str(key), value) for key, value in node.items()]
    return names
