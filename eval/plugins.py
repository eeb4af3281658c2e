"""What Hydra builds before any job of ours runs: its launcher, its sweeper, callbacks."""

from omegaconf import DictConfig, OmegaConf

from eval.configuration import found_at, targets
from rsalign import ConfigError, InstallError

PLUGINS = ("hydra.launcher.", "hydra.sweeper.")
_HOMES = ("hydra_plugins.", "hydra._internal.core_plugins.")


def check_hydra(node: DictConfig) -> None:
    """Launcher and sweeper are plugins of Hydra's; whatever else it would build must be ours.

    Args:
        node: Hydra's own settings.

    Raises:
        ConfigError: if a target lies elsewhere.
        InstallError: if a plugin is missing.
    """
    for where, found in targets(OmegaConf.to_container(node, resolve=False), "hydra"):
        target = found["_target_"]
        if f"{where}." not in PLUGINS:
            found_at(where, target)
            continue
        try:
            found_at(where, target, _HOMES)
        except ConfigError as error:
            if error.__cause__ is None:  # it is there, and may not be named
                raise
            package = target.split(".")[1].replace("_", "-")
            raise InstallError(
                f"{where}: {target} cannot be loaded; install {package} (pip install {package})"
            ) from error
