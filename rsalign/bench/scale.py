"""How speed, memory and the cost of rsalign itself change as the work grows, one size at a time.

Answers have a fixed length, because EOS does not end them, and prompts differ. The cost of rsalign
itself is the processor time of the thread that runs strategies and rewards' rendering; the engines
compute on another thread. Told for each token drawn, it must not grow with the size.
"""

import asyncio
import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsalign.aligner import AlignedOutput, Aligner
from rsalign.core.protocols import Strategy
from rsalign.core.types import Sampling
from rsalign.embedded.problems import problems
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward
from rsalign.segments import FixedSize
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.votes import MajorityVote
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.cards import Cards
from rsalign.strategies.plain import Plain
from rsalign.strategies.qalign import QAlign

_CONTEXT = 1536
_CONTEXT_ARGUMENTS: Mapping[str, Any] = {
    "max_model_len": _CONTEXT,
    "hf_overrides": {"max_position_embeddings": _CONTEXT},
}
_SHORT = 64
_PROMPTS = (1, 16, 256)
_LENGTHS = (64, 256, 1024)
_CANDIDATES = (4, 16, 64, 256)
_STEPS = (16, 64, 256, 1024)
_SEGMENT = 32
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One size of the work.

    Attributes:
        name: of the size, in the table.
        strategy: answers.
        num_prompts: open at once.
    """

    name: str
    strategy: Strategy
    num_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one size cost.

    Attributes:
        seconds: wall-clock time.
        host_seconds: processor time of the thread that runs strategies.
        num_answers: answers.
        num_tokens: drawn, the discarded ones included.
        memory: bytes of the process, while the answers and their traces are held.
    """

    seconds: float
    host_seconds: float
    num_answers: int
    num_tokens: int
    memory: int

    @property
    def host_per_token(self) -> float:
        """Seconds of rsalign's own processor time for each token drawn."""
        return self.host_seconds / self.num_tokens


def curves() -> dict[str, list[Size]]:
    """The sizes that are measured, by what grows."""
    answer = Plain(max_tokens=_SHORT)
    cards = Cards(
        segmenter=FixedSize(_SEGMENT),
        threshold=Constant(value=0.0),
        acceptance=SoftAcceptance(beta=1.0),
        max_tries=4,
    )
    chain = QAlign(max_tokens=_SHORT, answer=MajorityVote(extract=LastNumber()))
    return {
        "prompts open at once, best of 4": [
            Size(name=str(k), strategy=BestOf(n=4, inner=answer), num_prompts=k) for k in _PROMPTS
        ],
        "tokens of an answer, best of 4, 4 prompts": [
            Size(
                name=str(length),
                strategy=BestOf(n=4, inner=Plain(max_tokens=length)),
                num_prompts=4,
            )
            for length in _LENGTHS
        ],
        f"tokens of an answer, CARDS by segments of {_SEGMENT}, 4 prompts": [
            Size(name=str(length), strategy=replace(cards, max_tokens=length), num_prompts=4)
            for length in _LENGTHS
        ],
        "candidates of best-of-n, 4 prompts": [
            Size(name=str(n), strategy=BestOf(n=n, inner=answer), num_prompts=4)
            for n in _CANDIDATES
        ],
        "steps of a chain, 16 prompts": [
            Size(name=str(steps), strategy=replace(chain, steps=steps), num_prompts=16)
            for steps in _STEPS
        ],
    }


def report(policy: str, reward: str, *, repeats: int) -> Iterator[str]:
    """Lines of the report, as they are known; the least of `repeats` host times is shown."""
    yield "host: microseconds of rsalign's own processor time for each token drawn"
    yield "MiB: of this process, while the answers and their traces are held"
    drawing = VllmPolicy.start(policy, sampling=Sampling(ignore_eos=True), **_CONTEXT_ARGUMENTS)
    judging = VllmReward.start(reward, **_CONTEXT_ARGUMENTS)
    asked = [problem.question for problem in problems("heldout", max(_PROMPTS))]
    with Aligner(drawing, judging) as aligner:
        _measure(aligner, Size(name="", strategy=BestOf(n=4), num_prompts=4), asked, seed=0)
        for what, sizes in curves().items():
            yield ""
            yield (f"{what:<56} {'answers/s':>10} {'tokens/s':>9} {'host':>6} {'MiB':>6}")
            for size in sizes:
                costs = [_measure(aligner, size, asked, seed=1 + i) for i in range(repeats)]
                yield _line(size, min(costs, key=lambda cost: cost.host_per_token))
    drawing.close()
    judging.close()


def _measure(aligner: Aligner, size: Size, asked: Sequence[str], seed: int) -> Cost:
    async def answer() -> list[AlignedOutput]:
        conversations = [[{"role": "user", "content": text}] for text in asked[: size.num_prompts]]
        return await aligner.achat(conversations, strategy=size.strategy, seed=seed)

    gc.collect()
    started, host = time.perf_counter(), time.thread_time()
    outputs = asyncio.run(answer())
    seconds, host = time.perf_counter() - started, time.thread_time() - host
    return Cost(
        seconds=seconds,
        host_seconds=host,
        num_answers=len(outputs),
        num_tokens=sum(output.alignment.usage.policy_tokens_drawn for output in outputs),
        memory=_resident(),
    )


def _line(size: Size, cost: Cost) -> str:
    return (
        f"{size.name:>56} {cost.num_answers / cost.seconds:>10.2f} "
        f"{cost.num_tokens / cost.seconds:>9.0f} {1e6 * cost.host_per_token:>6.1f} "
        f"{cost.memory / _MIB:>6.0f}"
    )


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
