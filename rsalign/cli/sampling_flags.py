"""The flags by which a command is told how tokens are drawn."""

import argparse
from typing import Literal

from rsalign.core.errors import ConfigError
from rsalign.core.named_sampling import MODEL_SAMPLING
from rsalign.core.types import Sampling


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--sampling",
        choices=[MODEL_SAMPLING],
        help="'model': what the model's authors recommend (its generation_config.json) instead of "
        "temperature 1 without truncation; not beside --temperature, --top-p and --top-k",
    )
    parser.add_argument("--temperature", type=float, help="default: 1")
    parser.add_argument("--top-p", type=float, help="default: 1")
    parser.add_argument("--top-k", type=int, help="default: 0, which keeps every token")


def read_sampling(arguments: argparse.Namespace) -> Sampling | Literal["model"]:
    """The sampling settings that the flags ask for.

    Raises:
        ConfigError: if they contradict each other, or a value is out of range.

    Example:
        >>> read_sampling(argparse.Namespace(sampling="model", temperature=None, top_p=None,
        ...     top_k=None))
        'model'
    """
    flags = {name: getattr(arguments, name) for name in ("temperature", "top_p", "top_k")}
    given = {name: value for name, value in flags.items() if value is not None}
    if arguments.sampling is None:
        return Sampling(**given)
    if given:
        raise ConfigError(
            f"--sampling {MODEL_SAMPLING} and {', '.join(given)} exclude each other: give one"
        )
    return MODEL_SAMPLING
