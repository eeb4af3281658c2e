"""CARDS of several settings next to the best-of-n that reaches the same mean reward.

All rows answer the same problems in turn, within one run, `repeats` times. The best-of-n of the
same reward is found by interpolation: of ln (seconds an answer) over the mean reward, between the
two sizes whose mean rewards are next to it. Forwards are tokens for which a model ran, counted in
the engines' schedulers, whose prefix caches are empty at the start of every measurement.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from eval.bench.counted_engine import CountedEngine
from eval.bench.measured import MeasuredRow
from rsalign.aligner import AlignedOutput, Aligner
from rsalign.core.capabilities import needs_reward
from rsalign.core.protocols import Boundary
from rsalign.core.tasks import concurrently
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.starting import adopt_engine
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward
from rsalign.segments import Blocks, Entropy, FixedSize
from rsalign.segments.acceptance import Acceptance, HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.cards import Cards
from rsalign.strategies.plain import Plain

_BETA = 0.7


def report(
    policy: str,
    reward: str,
    *,
    targets: Sequence[float],
    block_size: int,
    best_of: Sequence[int],
    open_at_once: int,
    max_tokens: int,
    repeats: int,
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        targets: thresholds of CARDS, in the reward's units.
        block_size: of the engines' prefix caches, in tokens.
        best_of: sizes of best-of-n.
        open_at_once: number of prompts, all of which are open at once.
        max_tokens: greatest length of an answer.
        repeats: of every measurement, each with draws of its own.
    """
    plain = Plain(max_tokens=max_tokens)
    pools = [MeasuredRow(f"best of {n}", BestOf(n=n, inner=plain)) for n in best_of]
    cards = [
        MeasuredRow(name, strategy)
        for target in targets
        for name, strategy in _cards(target, block_size, max_tokens)
    ]
    rows = [MeasuredRow("plain", plain), *pools, *cards]
    drawing = CountedEngine(policy, pooling=False)
    judging = CountedEngine(reward, pooling=True)
    model = VllmPolicy.adopt(drawing.llm)
    with (
        Aligner(model, VllmReward(adopt_engine(judging.llm))) as judged,
        Aligner(model) as unjudged,
    ):
        asked = problems("heldout", open_at_once)
        for repeat in range(-1, repeats):
            # what comes first is slower, and is not counted
            for row in rows if repeat >= 0 else (rows[0], rows[-1]):
                aligner = judged if needs_reward(row.strategy) else unjudged
                row.problems = asked
                drawing.reset()
                judging.reset()
                started = time.perf_counter()
                answers = asyncio.run(_answers(aligner, row, repeat + 1))
                if repeat >= 0:
                    row.answers.append(answers)
                    row.seconds.append(time.perf_counter() - started)
                    row.policy_forwards += drawing.tokens
                    row.reward_forwards += judging.tokens
    yield f"{open_at_once} prompts, all open at once, median of {repeats} repeats"
    yield (
        f"{'per answer':<30}{'answers/s':>10}{'tokens drawn':>14}{'forwards per token drawn':>26}"
        f"{'mean reward':>13}{'to best-of-n of the same reward':>33}"
    )
    yield f"{'':<54}{'policy':>13}{'reward':>13}{'':>13}{'answers/s':>19}{'its n':>14}"
    for row in rows:
        tokens = row.drawn * len(row.flat)
        told = ""
        if row in cards:
            times, size = _compare(row, pools)
            told = f"{times:>19.2f}{size:>14.1f}" if times else f"{'beyond all n':>33}"
        yield (
            f"{row.name:<30}{row.answers_per_second:>10.2f}{row.drawn:>14.1f}"
            f"{row.policy_forwards / tokens:>13.2f}{row.reward_forwards / tokens:>13.2f}"
            f"{_mean_reward(row):>13.2f}{told}"
        )


def _cards(target: float, block_size: int, max_tokens: int) -> Iterator[tuple[str, Cards]]:
    """CARDS with a number of segmenters and acceptances at one target."""
    segmenters: list[tuple[str, Boundary]] = [
        ("entropy", Entropy(1.0)),
        ("16 tokens", FixedSize(16)),
        ("blocks", Blocks(block_size)),
    ]
    acceptances: list[tuple[str, Acceptance]] = [
        ("", SoftAcceptance(beta=_BETA)),
        (", hard", HardAcceptance()),
    ]
    for name, segmenter in segmenters:
        for word, acceptance in acceptances:
            yield (
                f"cards {target:g}, {name}{word}",
                Cards(
                    segmenter=segmenter,
                    threshold=Constant(value=target),
                    acceptance=acceptance,
                    max_tokens=max_tokens,
                    proposals="auto",
                ),
            )


def _mean_reward(row: MeasuredRow) -> float:
    rewards = [answer.outputs[0].reward for answer in row.flat]
    return fmean(math.nan if reward is None else reward for reward in rewards)


def _compare(row: MeasuredRow, pools: Sequence[MeasuredRow]) -> tuple[float, float]:
    """How many times the answers a second of best-of-n at this row's reward; and that n.

    Returns:
        Zeros where the row's reward is not among those of the pools.
    """
    found = sorted((_mean_reward(pool), pool) for pool in pools)
    rewards = [reward for reward, _ in found]
    own = _mean_reward(row)
    if not rewards[0] <= own <= rewards[-1]:
        return 0.0, 0.0
    seconds = [-math.log(pool.answers_per_second) for _, pool in found]
    sizes = [math.log(pool.strategy.n) for _, pool in found if isinstance(pool.strategy, BestOf)]
    same = math.exp(-float(np.interp(own, rewards, seconds)))
    return row.answers_per_second / same, math.exp(float(np.interp(own, rewards, sizes)))


async def _answers(aligner: Aligner, row: MeasuredRow, seed: int) -> list[AlignedOutput]:
    answers = await concurrently(
        aligner.agenerate(
            {"messages": [{"role": "user", "content": asked.question}], "id": i},
            strategy=row.strategy,
            seed=seed,
        )
        for i, asked in enumerate(row.problems)
    )
    return [answer for (answer,) in answers]
