"""The entry point of the command line: `rsalign generate`, `serve`, `lm-eval`, `demo`, ...

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

from rsalign import __version__
from rsalign.cli import bench, demo, doctor, generate, lm_eval, rewards, serve, sweeps
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.engines.vllm.progress import show_start_progress

_COMMANDS = (generate, serve, lm_eval, sweeps, demo, rewards, doctor, bench)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what is parsed has `run`, which takes it."""
    parser = argparse.ArgumentParser(prog="rsalign", description="Decoding-time alignment for vLLM")
    parser.add_argument("--version", action="version", version=f"rsalign {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = build_parser()
    arguments, flags = parser.parse_known_args(argv)
    if flags and not getattr(arguments, "passes_flags", False):
        parser.error(f"unrecognized arguments: {' '.join(flags)}")
    arguments.flags = flags
    if arguments.command not in ("serve", "sweep"):  # which show the whole log
        show_start_progress()
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(f"rsalign: {error}", file=sys.stderr)
        return 2
    except RsalignError as error:
        print(f"rsalign: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rsalign: interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
