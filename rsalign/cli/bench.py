"""`rsalign bench`: what rsalign costs next to the bare engine, as ratios within one run."""

import argparse
from typing import Any

from rsalign.embedded import POLICY, REWARD


def add_parser(subparsers: Any) -> None:
    """Declares the command."""
    parser = subparsers.add_parser("bench", help="speed next to the bare engine, as ratios")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    overhead = benches.add_parser("overhead", help="best-of-n and plain sampling; the controller")
    overhead.add_argument("--policy", default=POLICY, help="model id or path (default: embedded)")
    overhead.add_argument("--reward", default=REWARD, help="model id or path (default: embedded)")
    overhead.add_argument("--repeats", type=int, default=3, help="the median is shown")
    overhead.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints."""
    from rsalign.bench import overhead

    for line in overhead.report(arguments.policy, arguments.reward, repeats=arguments.repeats):
        print(line, flush=True)
    return 0
