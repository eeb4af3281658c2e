"""QAlign: steps and effective samples a second, next to a barrier in each step and to bare engines.

Everything is measured within one run, in turn, on held-out embedded problems. So many prompts are
open at once, and where one is answered the next begins, as in a sweep or behind a server; the
chains with a barrier take as many prompts at a time. How well chains mix does not depend on how
many run, so it is measured once for each number of candidates; effective samples are those of the
reward.

With ``backend="async"`` policy and reward have a process each and work at the same time, as they do
on GPUs. With ``"in_process"`` they take turns on one thread: their tokens cost what they cost, and
there is little to gain by not waiting.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

from eval.bench import chain_runs
from eval.bench.bare_engine import (
    Draw,
    RecordedPolicy,
    RecordedReward,
    bare_engine,
    drawing_seconds,
    forwards_per_drawn,
    judging_seconds,
)
from eval.bench.busy_time import BusyTime
from eval.bench.chain_runs import Compared, Measured, RunSize
from eval.bench.lock_step import lock_step
from rsalign.core.align import Result, align
from rsalign.core.key import Key, Label
from rsalign.core.protocols import Policy, Reward
from rsalign.core.tasks import concurrently
from rsalign.core.types import Message, Prompt, Response
from rsalign.embedded.problems import problems
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.vllm import VllmReward
from rsalign.strategies.qalign import QAlign

Backend = Literal["async", "in_process"]

_NUM_DRAFTS = 768  # of a measurement of speed alone, about
_FEWEST_STEPS, _MOST_STEPS = 4, 32
_BLOCKS = (32, 16, 1)  # of the KV cache: vLLM's on CPUs as rsalign sets it, on GPUs, and the least
_ROUNDS = 3  # prompts asked for each that is open
_MIXING_PROMPTS, _MIXING_CHAINS, _MIXING_STEPS = 8, 4, 24
_COUNTED = RunSize(num_prompts=8, chains=1, candidates=1, steps=16, num_asked=8)
_WARM_UP = RunSize(num_prompts=4, chains=1, candidates=1, steps=_FEWEST_STEPS, num_asked=4)


class QAlignBench:
    """Engines, and the prompts that are asked.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        settings: of QAlign; steps, chains and candidates are varied.
        num_prompts: most that are open at once.
        backend: of the engines that chains run on.
    """

    def __init__(
        self, policy: str, reward: str, settings: QAlign, num_prompts: int, backend: Backend
    ) -> None:
        self._settings = settings
        self._policy = VllmPolicy.start(policy, backend=backend)
        self._reward = VllmReward.start(reward, backend=backend)
        self._busy = (
            (BusyTime(self._policy.engine), BusyTime(self._reward.engine))
            if backend == "in_process"
            else ()
        )
        self._drawing = bare_engine(policy, pooling=False)
        self._judging = bare_engine(reward, pooling=True)
        self._rendering = Rendering(
            self._judging.get_tokenizer(), self._judging.model_config.max_model_len
        )
        self._prompts = [
            Prompt(messages, self._policy.encode_chat(messages))
            for problem in problems("heldout", max(_ROUNDS * num_prompts, _MIXING_PROMPTS))
            for messages in [(Message("user", problem.question),)]
        ]
        self.free(_WARM_UP)  # what comes first is slower

    @property
    def capacity(self) -> int:
        """Requests that the policy's engine holds."""
        return int(self._policy.engine.vllm_config.scheduler_config.max_num_seqs)

    def close(self) -> None:
        """Stops the engines."""
        self._policy.close()
        self._reward.close()

    def cells(
        self, num_prompts: Sequence[int], chains: Sequence[int], candidates: int
    ) -> list[RunSize]:
        """Sizes that the engine can hold, with so many steps that all take about as long."""
        return [
            RunSize(
                num_prompts=n,
                chains=c,
                candidates=candidates,
                steps=max(
                    _FEWEST_STEPS, min(_MOST_STEPS, _NUM_DRAFTS // (_ROUNDS * n * c * candidates))
                ),
                num_asked=_ROUNDS * n,
            )
            for n in num_prompts
            for c in chains
            if n * c * candidates <= self.capacity
        ]

    def mixing(self, candidates: int) -> tuple[float, float]:
        """Effective samples a step, and for 1,000 drawn tokens."""
        cell = RunSize(
            num_prompts=_MIXING_PROMPTS,
            chains=_MIXING_CHAINS,
            candidates=candidates,
            steps=_MIXING_STEPS,
            num_asked=_MIXING_PROMPTS,
        )
        run = self.free(cell)
        effective = run.effective or 0.0
        return effective / cell.num_steps, 1000 * effective / run.drawn

    def forwards(self) -> str:
        """A line: tokens that the policy computes for each it draws, for sizes of the KV block."""
        policy = RecordedPolicy(self._policy)
        self.free(_COUNTED, policy=policy)
        continuing = [draw for path, draw in policy.draws if "start" not in path]
        counts = (f"{forwards_per_drawn(continuing, block=b):.2f} ({b})" for b in _BLOCKS)
        return f"policy forwards for each token that a step draws (block size): {', '.join(counts)}"

    def free(
        self,
        cell: RunSize,
        *,
        seed: int = 0,
        policy: Policy | None = None,
        reward: Reward | None = None,
    ) -> Measured:
        """Measures free-running chains."""
        started = time.perf_counter()
        results = asyncio.run(
            self._results(cell, policy or self._policy, reward or self._reward, seed)
        )
        seconds = time.perf_counter() - started
        spent = [result.usage for result in results]
        sizes = [result.trace.notes["ess_reward"] for result in results]
        told = [size for size in sizes if isinstance(size, float)]
        return Measured(
            seconds=seconds,
            drawn=sum(usage.policy_tokens_drawn for usage in spent),
            cached=sum(u.cached_tokens for u in spent) / sum(u.prompt_tokens for u in spent),
            effective=fmean(told) * len(results) if told else None,
        )

    def compared(self, cell: RunSize, seed: int) -> Compared:
        """Free-running chains next to all others, in turn; one candidate for each step.

        Seeds differ, so that nobody finds the prefixes of another's draws in the cache.
        """
        policy, reward = RecordedPolicy(self._policy), RecordedReward(self._reward)
        self._take_busy()
        free = self.free(cell, seed=3 * seed, policy=policy, reward=reward)
        busy_free = self._take_busy()
        locked = self._lock_step_seconds(cell, 3 * seed + 1)
        busy_locked = self._take_busy()
        drawing = self._drawing_seconds(policy, cell)
        judging = judging_seconds(
            self._judging, [self._rendering.tokens(*asked) for asked in reward.asked]
        )
        policy = RecordedPolicy(self._policy)
        unjudged = self.free(cell, seed=3 * seed + 2, policy=policy, reward=_Nothing())
        return Compared(
            lock_step=locked / free.seconds,
            lock_step_bound=sum(busy_locked) / max(busy_free) if busy_free else None,
            unjudged=self._drawing_seconds(policy, cell) / unjudged.seconds,
            drawing=drawing / free.seconds,
            both=(drawing + judging) / free.seconds,
        )

    def _take_busy(self) -> list[float]:
        """Seconds that policy and reward have computed since the last call, if that is known."""
        return [one.take() for one in self._busy]

    def _lock_step_seconds(self, cell: RunSize, seed: int) -> float:
        asked = self._prompts[: cell.num_asked]

        async def in_turn() -> None:
            for first in range(0, len(asked), cell.num_prompts):
                batch = asked[first : first + cell.num_prompts]
                await lock_step(
                    batch,
                    self._strategy(cell),
                    policy=self._policy,
                    reward=self._reward,
                    keys=[Key(seed, (first + i,)) for i in range(len(batch))],
                )

        started = time.perf_counter()
        asyncio.run(in_turn())
        return time.perf_counter() - started

    def _drawing_seconds(self, policy: RecordedPolicy, cell: RunSize) -> float:
        """The second time: the prefixes are in the cache then, as they are when a chain asks."""
        chains = _chains(policy)
        drawing_seconds(self._drawing, chains, num_open=cell.num_open)
        return drawing_seconds(self._drawing, chains, num_open=cell.num_open)

    def _strategy(self, cell: RunSize) -> QAlign:
        return replace(
            self._settings, steps=cell.steps, chains=cell.chains, candidates=cell.candidates
        )

    async def _results(
        self, cell: RunSize, policy: Policy, reward: Reward, seed: int
    ) -> list[Result]:
        strategy = self._strategy(cell)
        return await concurrently(
            (
                align(prompt, strategy, policy=policy, reward=reward, seed=Key(seed, (i,)))
                for i, prompt in enumerate(self._prompts[: cell.num_asked])
            ),
            limit=cell.num_prompts,
        )


class _Nothing:
    """A reward that costs nothing."""

    async def score(self, prompt: Prompt, response: Response) -> float:
        return 0.0


def compared_cells(cells: Sequence[RunSize], steps: int) -> list[RunSize]:
    """Those with many chains, but not so many that a repeat takes minutes; with equal steps."""
    return [
        replace(cell, steps=steps)
        for cell in cells
        if cell.candidates == 1 and 16 <= cell.num_open <= 64
    ]


def _chains(policy: RecordedPolicy) -> list[list[Draw]]:
    """The draws of each chain in order; addresses are (prompt, "chain" or "start", chain, ...)."""
    chains: defaultdict[tuple[Label, Label], list[Draw]] = defaultdict(list)
    for path, draw in policy.draws:
        chains[path[0], path[2]].append(draw)
    return list(chains.values())


def report(
    policy: str,
    reward: str,
    *,
    settings: QAlign,
    repeats: int,
    num_prompts: Sequence[int],
    chains: Sequence[int],
    candidates: Sequence[int],
    compared_steps: int,
    backend: Backend,
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        settings: of QAlign; steps, chains and candidates are varied.
        repeats: of the comparisons.
        num_prompts: numbers of prompts that are open at once.
        chains: numbers of chains for each.
        candidates: numbers of suffixes for each cut.
        compared_steps: of each chain, in the comparisons.
        backend: of the engines that chains run on.
    """
    yield f"{settings} on {backend} engines"
    bench = QAlignBench(policy, reward, settings, max(num_prompts), backend)
    try:
        cells = {k: bench.cells(num_prompts, chains, k) for k in candidates}
        yield from chain_runs.speed_header(bench.capacity)
        for k, sizes in cells.items():
            mixing = bench.mixing(k)
            for cell in sizes:
                yield chain_runs.speed(cell, bench.free(cell), *mixing)
        yield ""
        yield bench.forwards()
        many = compared_cells([c for sizes in cells.values() for c in sizes], compared_steps)
        rounds = []
        for seed in range(repeats):
            started = time.perf_counter()
            rounds.append([bench.compared(cell, 1 + seed) for cell in many])
            yield f"repeat {seed + 1} of {repeats}: {time.perf_counter() - started:.0f} s"
        yield from chain_runs.comparisons(many, rounds)
    finally:
        bench.close()
