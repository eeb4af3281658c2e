"""`rsalign sweep`, `report` and `export`: sweeps over settings, and what their records say.

The programs are in ``eval/`` and their settings in ``conf/``: beside the package in a checkout, in
``rsalign/_sweeps/`` in an installed package, which is put on the path of this process and of those
that it starts. Nothing else imports them.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import rsalign
from rsalign.core.errors import InstallError

_PACKAGE = Path(rsalign.__file__).parent
_PROGRAMS = {
    "sweep": "eval.run",
    "report": "eval.report.__main__",
    "export": "eval.export.__main__",
}
_DISTRIBUTED = "eval.distributed.__main__"
_SWEEP = (
    "Every argument is a setting of Hydra's: strategy=best_of,qalign budget=1,4 task=gsm8k "
    "output=FOLDER, with -m for all combinations. --cfg job shows the settings and runs nothing."
)


def add_parser(subparsers: Any) -> None:
    """Adds the commands to the argument parser."""
    sweep = _add(
        subparsers, "sweep", "runs strategies on tasks, one job or a sweep over many", _SWEEP
    )
    sweep.add_argument(
        "--ray",
        action="store_true",
        help="answer on the workers of a Ray cluster (workers=N), with the same records",
    )
    _add(subparsers, "report", "tables, figures and one page from the records of sweeps")
    _add(subparsers, "export", "training data from the records of sweeps")


def _add(subparsers: Any, name: str, does: str, epilog: str = "") -> argparse.ArgumentParser:
    # the flags of a report or an export are the program's own, --help with them
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=epilog,
        allow_abbrev=False,
        add_help=name == "sweep",
    )
    parser.set_defaults(run=run, passes_flags=True)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Runs one of the programs with the flags that it was given.

    Raises:
        InstallError: if the program or a package that it needs is not installed.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [folder := str(find_programs()), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = _DISTRIBUTED if getattr(arguments, "ray", False) else _PROGRAMS[arguments.command]
    program = f"rsalign {arguments.command}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InstallError(
            f"{program} needs {error.name}: pip install 'rsalign[sweeps]'"
        ) from error
    sys.argv = [program, *arguments.flags]  # Hydra reads it
    return int(module.main(program=program))


def find_programs(package: Path = _PACKAGE) -> Path:
    """Finds the folder that has ``eval/`` and ``conf/``.

    Args:
        package: the folder of `rsalign`.

    Raises:
        InstallError: if neither the package nor the checkout around it has them.
    """
    for folder in (package / "_sweeps", package.parent):
        if (folder / "eval" / "run.py").is_file() and (folder / "conf" / "config.yaml").is_file():
            return folder
    raise InstallError(
        f"{package} has no sweeps: install rsalign's wheel, or run this in a checkout"
    )
