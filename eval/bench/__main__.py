"""`python -m eval.bench BENCH`: rsalign next to others, on the same models, within one run.

What a user of the library measures on a machine of their own is in `rsalign bench`: ``overhead``,
``hooks`` and ``serve``. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from rsalign import ConfigError, RsalignError
from rsalign.cli.bench import add_models, full_report, positive_count
from rsalign.embedded import STRONG
from rsalign.engines.vllm.progress import show_start_progress
from rsalign.words.parts import POLICIES, REWARDS, model_from


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one comparison and prints its tables; returns the exit code."""
    arguments = _parser().parse_args(argv)
    show_start_progress()
    try:
        for line in full_report(arguments):
            print(line, flush=True)
    except RsalignError as error:
        sys.stderr.write(f"eval.bench: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("eval.bench: interrupted\n")
        return 1
    return 0


def compare_cards(arguments: argparse.Namespace) -> Iterator[str]:
    """Compares `Cards` with plain sampling, best-of-n and the loop of its paper."""
    from eval.bench import cards
    from rsalign.segments import Entropy
    from rsalign.segments.acceptance import SoftAcceptance
    from rsalign.segments.thresholds import Constant
    from rsalign.strategies.cards import Cards

    yield from cards.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        settings=Cards(
            segmenter=Entropy(arguments.entropy),
            threshold=Constant(value=arguments.target),
            acceptance=SoftAcceptance(beta=arguments.beta),
            max_tokens=arguments.max_tokens,
        ),
        repeats=arguments.repeats,
        concurrencies=arguments.concurrency,
        loop_prompts=arguments.loop_prompts,
    )


def compare_at_equal_reward(arguments: argparse.Namespace) -> Iterator[str]:
    """Compares `Cards` of several settings with best-of-n of the same mean reward."""
    from eval.bench import frontier
    from rsalign.core.protocols import Boundary
    from rsalign.segments import Blocks, Entropy, FixedSize

    segmenters: dict[str, Boundary] = {
        "entropy": Entropy(1.0),
        "fixed": FixedSize(arguments.segment),
        "blocks": Blocks(arguments.blocks),
    }
    yield from frontier.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        settings=frontier.Settings(
            targets=arguments.targets,
            segmenters={name: segmenters[name] for name in arguments.segmenters},
            betas=arguments.betas,
            tries=arguments.tries,
            exhausted=arguments.exhausted,
            max_tokens=arguments.max_tokens,
        ),
        best_of=arguments.best_of,
        open_at_once=arguments.prompts,
        repeats=arguments.repeats,
    )


def measure_steps(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures what a step of each bare engine costs."""
    from eval.bench import steps

    yield from steps.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        requests=arguments.requests,
        repeats=arguments.repeats,
    )


def compare_qalign(arguments: argparse.Namespace) -> Iterator[str]:
    """Compares `QAlign` with chains that wait for each other and with the bare engine."""
    from eval.bench import qalign
    from rsalign.chains.cuts.laws import BlockCuts, UniformCuts
    from rsalign.strategies.qalign import QAlign

    yield from qalign.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        settings=QAlign(
            beta=arguments.beta,
            max_tokens=arguments.max_tokens,
            cuts=BlockCuts(size=arguments.block_cuts) if arguments.block_cuts else UniformCuts(),
        ),
        compared_steps=arguments.compared_steps,
        repeats=arguments.repeats,
        num_prompts=arguments.prompts,
        chains=arguments.chains,
        candidates=arguments.candidates,
        backend=arguments.backend,
    )


def compare_guided(arguments: argparse.Namespace) -> Iterator[str]:
    """Compares guided sampling with the policy and the guide, each drawing by itself."""
    from eval.bench import guided

    yield from guided.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--guide", arguments.guide, POLICIES),
        concurrencies=arguments.requests,
        repeats=arguments.repeats,
    )


def compare_peers(arguments: argparse.Namespace) -> Iterator[str]:
    """Compares rsalign with hand-written loops and with its_hub."""
    from eval.bench import peers

    yield from peers.report(
        model_from("--policy", arguments.policy, POLICIES),
        model_from("--reward", arguments.reward, REWARDS),
        n=arguments.n,
        num_prompts=arguments.prompts,
        repeats=arguments.repeats,
        its_hub=arguments.its_hub,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.bench",
        description="rsalign next to other engines and published loops, as ratios within one run",
    )
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")

    cards = benches.add_parser(
        "cards", help="CARDS next to plain sampling, best-of-n and the loop of its paper"
    )
    cards.set_defaults(report=compare_cards)
    _add_counts(cards, "concurrency", [1, 16, 64], "number of prompts open at once")
    cards.add_argument(
        "--loop-prompts",
        type=positive_count,
        default=64,
        metavar="N",
        help="number of prompts that the paper's loop answers (default: 64)",
    )
    cards.add_argument("--entropy", type=float, default=1.0, help="ends a segment, nats")
    cards.add_argument("--target", type=float, default=1.0, help="reward threshold of a segment")
    cards.add_argument("--beta", type=float, default=0.7, help="divides the reward")
    cards.add_argument("--max-tokens", type=positive_count, default=128, help="of an answer")

    frontier = benches.add_parser(
        "frontier", help="CARDS next to the best-of-n that reaches the same mean reward"
    )
    frontier.set_defaults(report=compare_at_equal_reward)
    frontier.add_argument(
        "--targets",
        type=float,
        nargs="+",
        default=[2.0],
        metavar="R",
        help="reward thresholds of CARDS",
    )
    frontier.add_argument(
        "--segmenters",
        nargs="+",
        choices=("entropy", "fixed", "blocks"),
        default=["entropy", "fixed", "blocks"],
        help="where segments end: Entropy(1), FixedSize(--segment), Blocks(--blocks)",
    )
    frontier.add_argument(
        "--segment", type=positive_count, default=16, metavar="N", help="tokens of a fixed segment"
    )
    frontier.add_argument(
        "--blocks", type=positive_count, default=32, metavar="N", help="of the engines' caches"
    )
    frontier.add_argument(
        "--betas", type=float, nargs="+", default=[0.7], metavar="B", help="0: hard acceptance"
    )
    _add_counts(frontier, "tries", [6, 20], "drafts of a segment at most")
    frontier.add_argument(
        "--exhausted",
        nargs="+",
        choices=("best", "finish"),
        default=["best", "finish"],
        help="what follows if all are rejected (Cards.when_exhausted)",
    )
    _add_counts(frontier, "best-of", [4, 8, 16], "sizes of the pools")
    _add_counts(frontier, "prompts", [16, 64], "number of prompts open at once")
    frontier.add_argument("--max-tokens", type=positive_count, default=128, help="of an answer")

    steps = benches.add_parser("steps", help="what a step of the bare engines costs")
    steps.set_defaults(report=measure_steps)
    _add_counts(steps, "requests", [1, 4, 16, 64, 128], "in a step")

    qalign = benches.add_parser(
        "qalign", help="QAlign next to a barrier after each step and to the bare engine"
    )
    qalign.set_defaults(report=compare_qalign)
    _add_counts(qalign, "prompts", [1, 16, 64], "number of prompts open at once")
    _add_counts(qalign, "chains", [1, 4], "number of chains of each prompt")
    _add_counts(qalign, "candidates", [1, 4], "number of candidates of each step")
    qalign.add_argument("--beta", type=float, default=1.0, help="divides the reward")
    qalign.add_argument(
        "--compared-steps",
        type=positive_count,
        default=16,
        metavar="N",
        help="of each chain, in the comparisons (default: 16)",
    )
    qalign.add_argument(
        "--block-cuts",
        type=positive_count,
        metavar="SIZE",
        help="cut only where blocks of so many tokens begin (default: at every token)",
    )
    qalign.add_argument(
        "--backend",
        choices=("async", "in_process"),
        default="async",
        help="a process for each engine (default), or one thread for both",
    )
    qalign.add_argument("--max-tokens", type=positive_count, default=128, help="of an answer")

    guided = benches.add_parser(
        "guided", help="guided sampling next to the policy and the guide, each drawing by itself"
    )
    guided.set_defaults(report=compare_guided)
    _add_counts(guided, "requests", [1, 16, 64], "number of requests open at once")
    guided.add_argument("--guide", default=STRONG, help="model id or path (default: embedded)")

    peers = benches.add_parser(
        "peers", help="best-of-n, beams and particles next to hand-written loops and to its_hub"
    )
    peers.set_defaults(report=compare_peers)
    peers.add_argument("--n", type=positive_count, default=16, help="candidates (default: 16)")
    peers.add_argument(
        "--prompts", type=positive_count, default=32, metavar="N", help="asked at once"
    )
    peers.add_argument(
        "--its-hub", metavar="PYTHON", help="of an environment with its_hub[lm]; else left out"
    )
    add_models(peers, reward=True)

    add_models(cards, reward=True)
    add_models(frontier, reward=True)
    add_models(steps, reward=True)
    add_models(qalign, reward=True)
    add_models(guided, reward=False)
    return parser


def _add_counts(
    parser: argparse.ArgumentParser, name: str, default: Sequence[int], meaning: str
) -> None:
    shown = " ".join(map(str, default))
    parser.add_argument(
        f"--{name}",
        type=positive_count,
        nargs="+",
        default=default,
        metavar="N",
        help=f"{meaning} (default: {shown})",
    )


if __name__ == "__main__":
    sys.exit(main())
