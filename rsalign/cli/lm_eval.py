"""`rsalign lm-eval`: runs lm-evaluation-harness with `rsalign` as its model."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rsalign.core.errors import InstallError

_EPILOG = (
    "Every flag goes to lm-eval: --tasks, --model_args, --gen_kwargs, --apply_chat_template, "
    "--log_samples, --output_path, ... (`lm-eval run --help`). --model_args takes policy=, "
    "reward=, strategy= and the strategy's settings as in `rsalign generate --set`."
)


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "lm-eval",
        help="lm-evaluation-harness with aligned answers",
        description="Runs lm-eval with --model rsalign.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, passes_flags=True)


def run(arguments: argparse.Namespace) -> int:
    """Registers the model and calls lm-eval's command line."""
    try:
        from lm_eval.__main__ import cli_evaluate

        from rsalign.harnesses.lm_eval import register
    except ImportError as error:
        raise InstallError(
            f"lm-eval cannot be loaded ({error}): pip install 'rsalign[lm-eval]'"
        ) from error
    register()
    sys.argv = ["lm-eval", *_with_model(arguments.flags)]  # lm-eval parses sys.argv only
    cli_evaluate()
    return 0


def _with_model(flags: Sequence[str]) -> list[str]:
    """Adds ``--model rsalign`` to `lm-eval run` if no model is named."""
    command, rest = (
        ("run", flags) if not flags or flags[0].startswith("-") else (flags[0], flags[1:])
    )
    if command != "run":
        return [command, *rest]
    named = any(flag.split("=")[0] in ("--model", "-M") for flag in rest)
    return [command, *rest] if named else [command, "--model", "rsalign", *rest]
