"""`rsalign bench`: what rsalign costs on this machine, as ratios within one run."""

import argparse
import importlib.util
import time
from collections.abc import Iterator
from typing import Any

from rsalign.core.errors import InstallError
from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.words.parts import POLICIES, REWARDS, model_from


def add_parser(subparsers: Any) -> None:
    """Declares the command."""
    parser = subparsers.add_parser("bench", help="what rsalign costs, as ratios within one run")
    parser.set_defaults(run=run)
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    overhead = benches.add_parser(
        "overhead", help="best-of-n and plain sampling compared with vLLM alone; the controller"
    )
    overhead.set_defaults(report=measure_overhead)
    overhead.add_argument("--n", type=positive_count, default=16, help="candidates of best-of-n")
    overhead.add_argument(
        "--prompts", type=positive_count, default=64, metavar="N", help="for best-of-n, at once"
    )
    hooks = benches.add_parser(
        "hooks", help="the engine with the logits processors, used or not, compared with none"
    )
    hooks.set_defaults(report=measure_hooks)
    hooks.add_argument(
        "--requests", type=positive_count, default=64, metavar="N", help="open at once"
    )
    serve = benches.add_parser("serve", help="the aligned server next to vLLM's own")
    serve.set_defaults(report=measure_serve)
    serve.add_argument(
        "--concurrency",
        type=positive_count,
        nargs="+",
        default=[1, 64],
        metavar="N",
        help="open at once",
    )
    serve.add_argument(
        "--requests", type=positive_count, default=192, metavar="N", help="in each round"
    )
    scale = benches.add_parser(
        "scale", help="speed, memory and rsalign's own cost as prompts, answers, n and steps grow"
    )
    scale.set_defaults(report=measure_scale)
    add_models(scale, reward=True)
    particles = benches.add_parser(
        "particles", help="a population next to drawing as many tokens at once"
    )
    particles.set_defaults(report=measure_particles)
    particles.add_argument(
        "--sizes",
        type=positive_count,
        nargs="+",
        default=[4, 16, 64],
        metavar="N",
        help="numbers of particles",
    )
    add_models(particles, reward=True)
    draft = benches.add_parser(
        "draft", help="a small draft beside a large target, next to it alone"
    )
    draft.set_defaults(report=measure_draft)
    draft.add_argument("--policy", default=STRONG, help="folder of the target (default: embedded)")
    draft.add_argument("--draft", default=POLICY, help="folder of the draft (default: embedded)")
    draft.add_argument("--judge", default=REWARD, help="reward model id or path")
    draft.add_argument("--prompts", type=positive_count, default=16, metavar="N", help="at once")
    draft.add_argument("--steps", type=positive_count, default=64, metavar="N", help="of a chain")
    draft.add_argument("--beta", type=float, default=1.0, help="divides the reward")
    draft.add_argument(
        "--grown",
        type=positive_count,
        metavar="N",
        help="use a copy of the target that has about N parameters and the same law",
    )
    add_models(overhead, reward=True)
    add_models(hooks, reward=False)
    add_models(serve, reward=False)


def add_models(parser: argparse.ArgumentParser, *, reward: bool) -> None:
    """Declares the options that all benchmarks have: the models and the number of repeats.

    Args:
        parser: of one benchmark.
        reward: whether it takes a reward model.
    """
    parser.add_argument("--policy", default=POLICY, help="model id or path (default: embedded)")
    if reward:
        parser.add_argument("--reward", default=REWARD, help="model id or path (default: embedded)")
    parser.add_argument("--repeats", type=positive_count, default=3, help="the median is shown")
    parser.add_argument(
        "--grown",
        type=positive_count,
        metavar="N",
        help="use copies of the models that have about N parameters and the same law",
    )


def grow_models(arguments: argparse.Namespace) -> Iterator[str]:
    """Puts grown models in the place of those that were asked for, if ``--grown`` says so.

    Yields:
        What the models are, for people.
    """
    if arguments.grown is None:
        return
    from rsalign.bench.grown import count_parameters, grow

    for name in ("policy", "reward", "guide"):
        if (model := getattr(arguments, name, None)) is not None:
            grown = grow(model, arguments.grown)
            setattr(arguments, name, grown)
            yield f"{name}: {count_parameters(grown) / 1e6:.1f} M parameters, the law of {model}"


def positive_count(text: str) -> int:
    """Reads an option that is a whole number of at least 1.

    Raises:
        ArgumentTypeError: if the number is below 1.
        ValueError: if it is no whole number.
    """
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def run(arguments: argparse.Namespace) -> int:
    """Measures, and prints each line of the report as soon as it is known.

    Raises:
        InstallError: if the package was installed from a wheel, which has no benchmarks.
    """
    if importlib.util.find_spec("rsalign.bench") is None:
        raise InstallError(
            "rsalign bench: the wheel has no benchmarks; run it in a checkout of rsalign"
        )
    for line in full_report(arguments):
        print(line, flush=True)
    return 0


def full_report(arguments: argparse.Namespace) -> Iterator[str]:
    """Lines of the report; with ``--grown`` also what the models are, and the time they computed.

    Args:
        arguments: of one benchmark, whose ``report`` measures.
    """
    yield from grow_models(arguments)
    if arguments.grown is None:
        yield from arguments.report(arguments)
        return
    from rsalign.engines.vllm.arithmetic import timed_arithmetic

    with timed_arithmetic() as arithmetic:
        yield from arguments.report(arguments)
    yield arithmetic.describe(time.perf_counter())


def measure_overhead(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures the cost of the controller."""
    from rsalign.bench import overhead

    yield from overhead.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        repeats=arguments.repeats,
        n=arguments.n,
        num_prompts=arguments.prompts,
    )


def measure_hooks(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures the cost of the logits processors."""
    from rsalign.bench import hooks

    yield from hooks.report(
        model_from("--policy", arguments.policy, POLICIES),
        requests=arguments.requests,
        repeats=arguments.repeats,
    )


def measure_serve(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures the cost of the aligned server."""
    from rsalign.bench import serve

    yield from serve.report(
        model_from("--policy", arguments.policy, POLICIES),
        concurrencies=arguments.concurrency,
        requests=arguments.requests,
        repeats=arguments.repeats,
    )


def measure_scale(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures how cost grows with the work."""
    from rsalign.bench import scale

    yield from scale.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        repeats=arguments.repeats,
    )


def measure_particles(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures the cost of populations."""
    from rsalign.bench import particles

    yield from particles.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        sizes=arguments.sizes,
        repeats=arguments.repeats,
    )


def measure_draft(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures what a draft saves."""
    from rsalign.bench import draft

    yield from draft.report(
        arguments.policy,
        arguments.draft,
        arguments.judge,
        prompts=arguments.prompts,
        steps=arguments.steps,
        beta=arguments.beta,
    )
