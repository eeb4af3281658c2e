"""The command line's overrides, looked at before Hydra does: an unknown name gets a near one."""

import difflib
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from eval.configuration import find_targets, import_target
from rsalign import ConfigError, InstallError
from rsalign.words.messages import suggest

CONF = Path(__file__).parent.parent / "conf"
PLUGINS = ("hydra.launcher.", "hydra.sweeper.")
_HOMES = ("hydra_plugins.", "hydra._internal.core_plugins.")
_PRESET = "hydra.sweeper.params."
_BUDGET = ("answers", "limit")


def quote_numbers(arguments: Sequence[str]) -> list[str]:
    """The command line with choices that are numbers in quotes: Hydra takes only words for them.

    >>> quote_numbers(["budget=4,16", "strategy.n=4"])
    ["budget='4','16'", 'strategy.n=4']
    >>> print(*quote_numbers(["hydra.sweeper.params.budget=4"]))
    hydra.sweeper.params.budget="'4'"
    """

    def one(argument: str) -> str:
        name, _, value = argument.partition("=")
        if not value or '"' in value or not (CONF / name.removeprefix(_PRESET)).is_dir():
            return argument
        choices = ",".join(
            f"'{choice}'" if choice.isdecimal() else choice for choice in value.split(",")
        )
        return f'{name}="{choices}"' if name.startswith(_PRESET) else f"{name}={choices}"

    return [one(argument) for argument in arguments]


def read_overrides(arguments: Sequence[str]) -> list[str]:
    """The overrides of a command line, without Hydra's flags.

    Raises:
        ConfigError: if a flag brings in a configuration from elsewhere, which nothing here checks.
    """
    parsed = get_args_parser().parse_args(list(arguments))
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(parsed, flag) and not _repeats_a_run(parsed):
            raise ConfigError(
                f"--{flag.replace('_', '-')}: configurations are those in conf/; put a preset of "
                "your own into conf/experiment/ and say experiment=<its name>"
            )
    return list(parsed.overrides)


def _repeats_a_run(parsed: Any) -> bool:
    """Whether the configuration is that of a run folder: it says nothing of Hydra's own parts."""
    if parsed.config_dir or parsed.experimental_rerun or not parsed.config_path:
        return False
    path = Path(parsed.config_path) / "config.yaml"
    return parsed.config_name == "config" and path.is_file() and "hydra" not in OmegaConf.load(path)


def check_overrides(arguments: Sequence[str], config_name: str = "config") -> DictConfig:
    """Refuses a setting or a choice that there is not, and targets that Hydra would build.

    Args:
        arguments: overrides.
        config_name: the file of ``conf/`` that they override.

    Returns:
        The configuration, with Hydra's own; of a sweep its first job's.

    Raises:
        ConfigError: with the nearest valid name, if a name is wrong.
    """
    overrides = _with_preset(arguments, config_name)
    _check_settings(overrides, compose_config(_chosen(overrides), config_name, with_hydra=True))
    firsts = {
        override.get_key_element(): _first(override)
        for override in overrides
        if override.is_discrete_sweep() or not override.is_sweep_override()  # an interval has none
    }
    config = compose_config(list(firsts.values()), config_name, with_hydra=True)
    _check_names(config, config_name)
    check_hydra(config.hydra)
    return config


def count_jobs(arguments: Sequence[str], config_name: str = "config") -> int | None:
    """How many jobs a sweep with these overrides has.

    Args:
        arguments: overrides, which `check_overrides` accepts.
        config_name: the file of ``conf/`` that they override.

    Returns:
        1 if it is no sweep; None if a sweeper chooses them as it goes.
    """
    by_name = {one.get_key_element(): one for one in _with_preset(arguments, config_name)}
    swept = [one for one in by_name.values() if one.is_sweep_override()]
    if not all(one.is_discrete_sweep() for one in swept):
        return None
    return math.prod(len(list(one.sweep_string_iterator())) for one in swept)


def _with_preset(arguments: Sequence[str], config_name: str) -> list[Override]:
    """The overrides, after those that a preset sweeps over."""
    overrides = _parsed(arguments)
    preset = (
        compose_config(_chosen(overrides), config_name, with_hydra=True).hydra.sweeper.get("params")
        or {}
    )
    return [*_parsed([f"{name}={values}" for name, values in preset.items()]), *overrides]


def compose_config(
    overrides: Sequence[str], config_name: str = "config", *, with_hydra: bool = False
) -> DictConfig:
    """The configuration that these overrides make, without running anything.

    Args:
        overrides: one value each.
        config_name: the file of ``conf/`` that they override.
        with_hydra: whether Hydra's own settings are a part of it.

    Raises:
        ConfigError: if they make none.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(
                config_name, overrides=quote_numbers(overrides), return_hydra_config=with_hydra
            )
    except HydraException as error:
        raise ConfigError(f"{' '.join(overrides)}: {error}") from error


def _chosen(overrides: Sequence[Override]) -> list[str]:
    """The first choice of each group; all of them are checked."""
    chosen: dict[str, str] = {}
    for override in overrides:
        name = override.key_or_group
        if name in _groups() and not override.is_delete():
            # a name that begins with _ is what other choices share
            choices = [path.stem for path in (CONF / name).glob("[!_]*.yaml")]
            for choice in _values(override):
                if choice not in (*choices, "null"):
                    raise ConfigError(
                        f"{name}={choice}: there is no such choice{suggest(choice, choices)}"
                    )
            chosen[name] = f"{name}={_values(override)[0]}"
    return list(chosen.values())


def _check_settings(overrides: Sequence[Override], config: DictConfig) -> None:
    """All but choices, and but what is added (``+name=``)."""
    known = _names(config)
    for override in overrides:
        name = override.key_or_group
        if name in _groups() or name.startswith("hydra/"):
            continue
        if override.is_add() or override.is_force_add():
            continue
        if name.startswith("workers"):
            if "workers" not in known:
                raise ConfigError(
                    f"{name}: the launcher that is chosen has one worker; name another, such as "
                    "hydra/launcher=joblib"
                )
        elif name.startswith(_PRESET) and name not in known:
            raise ConfigError(
                f"{name}: no preset is named that sweeps over it; say {name.removeprefix(_PRESET)}="
            )
        # Hydra's own settings may hold any others, such as hydra.sweeper.max_batch_size
        least = 3 if name.startswith(PLUGINS) else 2 if name.startswith("hydra.") else None
        if ".".join(name.split(".")[:least]) not in known:
            if _takes(config, name):
                raise ConfigError(f"{name}: its file leaves it out; add it as +{name}=...")
            alike = [one for one in known if one.startswith("hydra") == name.startswith("hydra")]
            listed = _siblings(name, [*alike, *_groups()])
            raise ConfigError(f"{name}: there is no such setting{suggest(name, listed)}")


def _siblings(name: str, known: Sequence[str]) -> list[str]:
    """The settings that a message about an unknown name lists: a few of all that there are.

    Those beside it; if its node is unknown too, those of nearly the same name, or else the nodes.
    """
    node = name.rpartition(".")[0]
    beside = [one for one in known if one.rpartition(".")[0] == node] if node else []
    return (
        beside
        or difflib.get_close_matches(name, sorted(set(known)))
        or [one for one in known if "." not in one]
    )


def _takes(config: DictConfig, name: str) -> bool:
    """Whether it is an argument of what its node makes."""
    path, _, last = name.rpartition(".")
    node = OmegaConf.select(config, path) if path else None
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return False
    return last in inspect.signature(import_target(path, node._target_)).parameters


def _check_names(config: DictConfig, config_name: str) -> None:
    """What was added, by an override or a preset, must be something that is read."""
    known = {*map(str, compose_config([], config_name)), "hydra", "workers"}
    for name in map(str, config):
        if name not in known:
            raise ConfigError(f"{name}: there is no such setting{suggest(name, known)}")
    for name in map(str, config.budget):
        if name not in _BUDGET:
            raise ConfigError(f"budget.{name}: there is no such setting{suggest(name, _BUDGET)}")


def _groups() -> set[str]:
    return {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()} - {"hydra"}


def _parsed(arguments: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(arguments))


def _first(override: Override) -> str:
    """The override of the first job of a sweep."""
    if not override.is_discrete_sweep():
        return str(override.input_line)
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _values(override: Override) -> list[str]:
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


def check_hydra(node: DictConfig) -> None:
    """Launcher and sweeper are plugins of Hydra's; whatever else it would build must be ours.

    Args:
        node: Hydra's own settings.

    Raises:
        ConfigError: if a target lies elsewhere.
        InstallError: if a plugin is missing.
    """
    for where, found in find_targets(OmegaConf.to_container(node, resolve=False), "hydra"):
        target = found["_target_"]
        if f"{where}." not in PLUGINS:
            import_target(where, target)
            continue
        try:
            import_target(where, target, _HOMES)
        except ConfigError as error:
            if error.__cause__ is None:  # it is there, and may not be named
                raise
            package = target.split(".")[1].replace("_", "-")
            raise InstallError(
                f"{where}: {target} cannot be loaded; install {package} (pip install {package})"
            ) from error
