"""The flag ``--part`` of commands that start a run."""

import argparse


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Adds ``--part NAME=SPEC``; `rsalign.words.named_parts.read_parts` reads it."""
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="a further model or judge that the strategy needs, by name, with its settings after a "
        "dot: judge=pairwise_judge judge.policy=org/model, or draft=org/small-model",
    )
