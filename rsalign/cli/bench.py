"""`rsalign bench`: measures the cost of rsalign, as ratios between runs on one machine."""

import argparse
from typing import Any

from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.words.parts import POLICIES, REWARDS, model_from


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "bench", help="measure the cost of rsalign, as ratios within one run"
    )
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    overhead = benches.add_parser(
        "overhead", help="best-of-n and plain sampling compared with vLLM alone; the controller"
    )
    overhead.set_defaults(run=run_overhead)
    cards = benches.add_parser(
        "cards", help="CARDS compared with plain sampling, best-of-n and the loop of its paper"
    )
    cards.add_argument(
        "--concurrency",
        type=_count,
        nargs="+",
        default=[1, 16, 64],
        metavar="N",
        help="prompts open at once (default: 1 16 64)",
    )
    cards.add_argument(
        "--loop-prompts", type=_count, default=64, help="number of prompts for the paper's loop"
    )
    cards.add_argument(
        "--entropy", type=float, default=1.0, help="entropy that ends a segment, nats"
    )
    cards.add_argument("--target", type=float, default=1.0, help="reward threshold of a segment")
    cards.add_argument("--beta", type=float, default=0.7, help="divides the reward")
    cards.add_argument("--max-tokens", type=_count, default=128, help="of an answer")
    cards.set_defaults(run=run_cards)
    hooks = benches.add_parser(
        "hooks", help="the engine with the logits processors, used or not, compared with none"
    )
    hooks.add_argument("--requests", type=_count, default=64, metavar="N", help="open at once")
    hooks.set_defaults(run=run_hooks)
    guided = benches.add_parser(
        "guided", help="guided sampling compared with the policy and the guide alone"
    )
    guided.add_argument(
        "--requests", type=_count, nargs="+", default=[1, 16, 64], metavar="N", help="open at once"
    )
    guided.add_argument("--guide", default=STRONG, help="model id or path (default: embedded)")
    guided.set_defaults(run=run_guided)
    qalign = benches.add_parser(
        "qalign", help="QAlign compared with a barrier after each step, and with vLLM alone"
    )
    for name, numbers, what in (
        ("prompts", [1, 16, 64], "open at once"),
        ("chains", [1, 4], "of each"),
        ("candidates", [1, 4], "of each step"),
    ):
        qalign.add_argument(
            f"--{name}", type=_count, nargs="+", default=numbers, metavar="N", help=what
        )
    qalign.add_argument("--beta", type=float, default=1.0, help="divides the reward")
    qalign.add_argument(
        "--backend",
        choices=("async", "in_process"),
        default="async",
        help="a process for each engine (default), or one thread for both",
    )
    qalign.add_argument("--max-tokens", type=_count, default=128, help="of an answer")
    qalign.set_defaults(run=run_qalign)
    serve = benches.add_parser("serve", help="the aligned server compared with vLLM's own")
    serve.add_argument(
        "--concurrency", type=_count, nargs="+", default=[1, 64], metavar="N", help="open at once"
    )
    serve.add_argument("--requests", type=_count, default=192, metavar="N", help="in each round")
    serve.set_defaults(run=run_serve)
    for bench in (overhead, cards, hooks, guided, qalign, serve):
        bench.add_argument("--policy", default=POLICY, help="model id or path (default: embedded)")
        if bench not in (hooks, guided, serve):
            bench.add_argument(
                "--reward", default=REWARD, help="model id or path (default: embedded)"
            )
        bench.add_argument("--repeats", type=_count, default=3, help="the median is shown")


def run_overhead(arguments: argparse.Namespace) -> int:
    """Runs the benchmark and prints its report."""
    from rsalign.bench import overhead

    for line in overhead.report(
        _model(arguments, "policy"), _model(arguments, "reward"), repeats=arguments.repeats
    ):
        print(line, flush=True)
    return 0


def run_cards(arguments: argparse.Namespace) -> int:
    """Runs the benchmark and prints its report."""
    from rsalign.bench import cards
    from rsalign.segments import Entropy
    from rsalign.segments.acceptance import SoftAcceptance
    from rsalign.segments.thresholds import Constant
    from rsalign.strategies.cards import Cards

    settings = Cards(
        segmenter=Entropy(arguments.entropy),
        threshold=Constant(value=arguments.target),
        acceptance=SoftAcceptance(beta=arguments.beta),
        max_tokens=arguments.max_tokens,
    )
    for line in cards.report(
        _model(arguments, "policy"),
        _model(arguments, "reward"),
        settings=settings,
        repeats=arguments.repeats,
        concurrencies=arguments.concurrency,
        loop_prompts=arguments.loop_prompts,
    ):
        print(line, flush=True)
    return 0


def run_hooks(arguments: argparse.Namespace) -> int:
    """Runs the benchmark and prints its report."""
    from rsalign.bench import hooks

    for line in hooks.report(
        _model(arguments, "policy"), requests=arguments.requests, repeats=arguments.repeats
    ):
        print(line, flush=True)
    return 0


def run_guided(arguments: argparse.Namespace) -> int:
    """Runs the benchmark and prints its report."""
    from rsalign.bench import guided

    for line in guided.report(
        _model(arguments, "policy"),
        _model(arguments, "guide"),
        concurrencies=arguments.requests,
        repeats=arguments.repeats,
    ):
        print(line, flush=True)
    return 0


def run_qalign(arguments: argparse.Namespace) -> int:
    """Runs the benchmark and prints its report."""
    from rsalign.bench import qalign
    from rsalign.strategies.qalign import QAlign

    for line in qalign.report(
        _model(arguments, "policy"),
        _model(arguments, "reward"),
        settings=QAlign(beta=arguments.beta, max_tokens=arguments.max_tokens),
        repeats=arguments.repeats,
        num_prompts=arguments.prompts,
        chains=arguments.chains,
        candidates=arguments.candidates,
        backend=arguments.backend,
    ):
        print(line, flush=True)
    return 0


def run_serve(arguments: argparse.Namespace) -> int:
    """Runs the benchmark and prints its report."""
    from rsalign.bench import serve

    for line in serve.report(
        _model(arguments, "policy"),
        concurrencies=arguments.concurrency,
        requests=arguments.requests,
        repeats=arguments.repeats,
    ):
        print(line, flush=True)
    return 0


def _model(arguments: argparse.Namespace, name: str) -> str:
    known = REWARDS if name == "reward" else POLICIES
    return model_from(f"--{name}", getattr(arguments, name), known)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count
