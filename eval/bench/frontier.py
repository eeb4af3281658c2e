"""CARDS of several settings next to the best-of-n that reaches the same mean reward.

All rows answer the same problems in turn, within one run, `repeats` times. The mean reward of
best-of-n is known for every n from the largest pool (`eval.analysis.pools`); its seconds an answer
are those of a straight line through the sizes that were measured. Forwards are tokens for which a
model ran, counted in the engines' schedulers, whose prefix caches are empty at the start of every
measurement; in brackets what a cache with blocks of 16 tokens, as on GPUs, would have left of them
(`eval.bench.simulated_cache`). On CPU, where one thread steps both engines, seconds are those of
this process on the processor, so that others who share the machine count less.
"""

import asyncio
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from eval.bench.counted_engine import CountedEngine
from eval.bench.equal_reward import rewards_of_best, seconds_of_size, size_of_reward
from eval.bench.measured import MeasuredRow
from rsalign.aligner import AlignedOutput, Aligner
from rsalign.core.capabilities import needs_reward
from rsalign.core.protocols import Boundary
from rsalign.core.tasks import concurrently
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.environment import is_cpu_build
from rsalign.engines.vllm.starting import adopt_engine
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.cards import Cards
from rsalign.strategies.plain import Plain

_now = time.process_time if is_cpu_build() else time.perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of CARDS that are compared, each with each.

    Attributes:
        targets: thresholds, in the reward's units.
        segmenters: by their names in the table.
        betas: divide the reward; 0 is hard acceptance.
        tries: drafts of a segment at most.
        exhausted: what follows if all are rejected (`Cards.when_exhausted`).
        max_tokens: greatest length of an answer.
    """

    targets: Sequence[float]
    segmenters: Mapping[str, Boundary]
    betas: Sequence[float]
    tries: Sequence[int]
    exhausted: Sequence[Literal["best", "finish"]]
    max_tokens: int

    def rows(self) -> Iterator[MeasuredRow]:
        """A row of each setting."""
        for (name, segmenter), exhausted, tries, target, beta in itertools.product(
            self.segmenters.items(), self.exhausted, self.tries, self.targets, self.betas
        ):
            yield MeasuredRow(
                f"cards {target:g}, {beta:g}, {name}, {tries} tries, {exhausted}",
                Cards(
                    segmenter=segmenter,
                    threshold=Constant(value=target),
                    acceptance=SoftAcceptance(beta=beta) if beta else HardAcceptance(),
                    max_tokens=self.max_tokens,
                    max_tries=tries,
                    when_exhausted=exhausted,
                    proposals="auto",
                ),
            )


def report(
    policy: str,
    reward: str,
    *,
    settings: Settings,
    best_of: Sequence[int],
    open_at_once: Sequence[int],
    repeats: int,
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        settings: of CARDS.
        best_of: sizes of best-of-n.
        open_at_once: numbers of prompts, all of which are open at once.
        repeats: of every measurement, each with draws of its own.
    """
    drawing = CountedEngine(policy, pooling=False)
    judging = CountedEngine(reward, pooling=True)
    model = VllmPolicy.adopt(drawing.llm)
    plain = Plain(max_tokens=settings.max_tokens)
    with (
        Aligner(model, VllmReward(adopt_engine(judging.llm))) as judged,
        Aligner(model) as unjudged,
    ):

        def measure(row: MeasuredRow, seed: int) -> None:
            aligner = judged if needs_reward(row.strategy) else unjudged
            drawing.reset()
            judging.reset()
            started = _now()
            row.answers.append(asyncio.run(_answers(aligner, row, seed)))
            row.seconds.append(_now() - started)
            row.policy_forwards += drawing.tokens
            row.reward_forwards += judging.tokens
            row.simulated_policy_forwards += drawing.simulated_tokens
            row.simulated_reward_forwards += judging.simulated_tokens

        for number in open_at_once:
            asked = problems("heldout", number)
            pools = [MeasuredRow(f"best of {n}", BestOf(n=n, inner=plain)) for n in sorted(best_of)]
            cards = list(settings.rows())
            rows = [MeasuredRow("plain", plain), *pools, *cards]
            for row in (rows[0], rows[-1]):  # what comes first is slower, and is not counted
                measure(MeasuredRow(row.name, row.strategy, asked), seed=0)
            for seed in range(1, repeats + 1):
                for row in rows:
                    row.problems = asked
                    measure(row, seed)
            yield from _table(rows, pools, cards)


def _table(
    rows: Sequence[MeasuredRow], pools: Sequence[MeasuredRow], cards: Sequence[MeasuredRow]
) -> Iterator[str]:
    curve = rewards_of_best(_rewards_by_prompt(pools[-1]))
    seconds = {
        pool.strategy.n: 1 / pool.answers_per_second
        for pool in pools
        if isinstance(pool.strategy, BestOf)
    }
    repeats = len(rows[0].seconds)
    yield f"{len(rows[0].problems)} prompts, all open at once, median of {repeats} repeats"
    yield (
        f"{'per answer':<44}{'answers/s':>10}{'tokens drawn':>14}{'forwards per token drawn':>34}"
        f"{'mean reward':>13}{'to best-of-n of the same reward':>33}"
    )
    yield f"{'':<68}{'policy':>20}{'reward':>14}{'':>13}{'answers/s':>19}{'its n':>14}"
    for row in rows:
        tokens = row.drawn * len(row.flat)
        own, told = _mean_reward(row), ""
        if row in pools and isinstance(row.strategy, BestOf):
            own = curve[row.strategy.n - 1]
        elif row in cards:
            size = size_of_reward(own, curve)
            if size is not None:
                times = row.answers_per_second * seconds_of_size(size, seconds)
                told = f"{times:>19.2f}{size:>14.1f}"
            else:
                told = f"{'not among those measured':>33}"
        yield (
            f"{row.name:<44}{row.answers_per_second:>10.2f}{row.drawn:>14.1f}"
            f"{row.policy_forwards / tokens:>13.2f} ({row.simulated_policy_forwards / tokens:.2f})"
            f"{row.reward_forwards / tokens:>7.2f} ({row.simulated_reward_forwards / tokens:.2f})"
            f"{own:>13.2f}{told}"
        )
    yield ""


def _mean_reward(row: MeasuredRow) -> float:
    rewards = [answer.outputs[0].reward for answer in row.flat]
    return fmean(math.nan if reward is None else reward for reward in rewards)


def _rewards_by_prompt(row: MeasuredRow) -> list[list[float]]:
    """The rewards of all candidates of each prompt, from all repeats."""
    return [
        [
            proposal.candidate.reward
            for answer in answers
            for proposal in answer.alignment.trace.proposals
        ]
        for answers in zip(*row.answers, strict=True)
    ]


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
