"""`rsalign demo`: compares best-of-n with plain sampling, on the embedded models in vLLM."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from rsalign.aligner import AlignedOutput, Aligner
from rsalign.core.protocols import Strategy
from rsalign.embedded import POLICY, REWARD
from rsalign.embedded.problems import Problem, problems
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.plain import Plain

_NUM_EXAMPLES = 3
_MAX_TOKENS = 128


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "demo", help="compare best-of-n with plain sampling, on the embedded models"
    )
    parser.add_argument("--problems", type=int, default=32, help="number of held-out problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Solves the same problems by three strategies and prints the results."""
    asked = problems("heldout", arguments.problems)
    plain = Plain(max_tokens=_MAX_TOKENS)
    strategies: dict[str, Strategy] = {
        "plain": plain,
        "best of 4": BestOf(n=4, inner=plain),
        "best of 16": BestOf(n=16, inner=plain),
    }
    print("Starting two vLLM engines (policy and reward) on the embedded models ...", flush=True)
    started = time.perf_counter()
    with Aligner(POLICY, REWARD, seed=arguments.seed) as aligner:
        print(f"ready after {time.perf_counter() - started:.1f} s\n")
        conversations = [[{"role": "user", "content": p.question}] for p in asked]
        aligner.chat(conversations[:1], strategy=plain)  # warm-up: the first requests are slower
        print(f"{len(asked)} held-out problems      right   mean reward   tokens drawn   seconds")
        answers: list[AlignedOutput] = []
        for name, strategy in strategies.items():
            started = time.perf_counter()
            answers = aligner.chat(conversations, strategy=strategy, use_tqdm=False)
            _print_row(name, asked, answers, time.perf_counter() - started)
    for problem, answer in list(zip(asked, answers, strict=True))[:_NUM_EXAMPLES]:
        _print_example(problem, answer)
    return 0


def _print_row(
    name: str, asked: Sequence[Problem], answers: Sequence[AlignedOutput], seconds: float
) -> None:
    right = [p.grade(a.outputs[0].text) for p, a in zip(asked, answers, strict=True)]
    rewards = [a.outputs[0].reward or 0.0 for a in answers]
    tokens = sum(a.alignment.usage.policy_tokens_drawn for a in answers)
    print(
        f"{name:<22} {sum(right):>3} of {len(right):<3} {sum(rewards) / len(rewards):>11.2f} "
        f"{tokens:>14} {seconds:>9.2f}",
        flush=True,
    )


def _print_example(problem: Problem, answer: AlignedOutput) -> None:
    print(f"\n{problem.question}\nRight answer: {problem.answer}. Candidates, best first:")
    proposals = sorted(answer.alignment.trace.proposals, key=lambda p: -p.candidate.reward)
    for proposal in proposals:
        text = proposal.candidate.response.text
        mark = "right" if problem.grade(text) else "wrong"
        print(f"  {proposal.candidate.reward:>6.2f}  {mark}  {' / '.join(text.splitlines())}")
