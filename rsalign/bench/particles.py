"""What a population costs next to drawing as many tokens at once.

Both run in one process, in turn, on one engine: particles through `Aligner`, the bare engine
through `vllm.LLM`, which draws whole answers. Particles stop after each segment, are resampled, and
go on with a new request, whose prefix is in the cache. The reward of the ratios is a function that
costs nothing; a last line has a reward model.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from rsalign.aligner import Aligner
from rsalign.core.budget import Usage
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.building import engine_arguments, few_processes
from rsalign.engines.vllm.environment import import_vllm
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.function import FunctionReward
from rsalign.rewards.vllm import VllmReward
from rsalign.segments.segmenters import FixedSize
from rsalign.strategies.particles import Particles

_MAX_TOKENS = 96
_SEGMENT = 16
_NUM_PROMPTS = 16


def report(policy: str, reward: str, *, sizes: list[int], repeats: int) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: id or path of a model.
        reward: the same, for the last line.
        sizes: numbers of particles.
        repeats: of each measurement; the median is shown.
    """
    vllm = import_vllm()
    with few_processes():
        llm = vllm.LLM(**engine_arguments(policy, {}, pooling=False))
    conversations = [
        [{"role": "user", "content": problem.question}]
        for problem in problems("heldout", _NUM_PROMPTS)
    ]
    drawing = VllmPolicy.adopt(llm)
    with Aligner(drawing, FunctionReward(_value)) as aligner:
        for n in sizes:
            yield _compared(n, aligner, llm, conversations, repeats)
        yield _prompts_at_once(sizes[0], aligner, conversations)
    judging = VllmReward.start(reward)
    with contextlib.closing(judging), Aligner(drawing, judging) as aligner:
        n = sizes[len(sizes) // 2]
        seconds, usage = _timed(lambda: _particles(n, aligner, conversations))
        yield (
            f"n = {n} with a reward model: {_speed(usage, seconds)}, "
            f"{usage.reward_calls / seconds:,.0f} rewards/s"
        )


def _value(question: str, answer: str) -> float:
    """A reward that varies between particles and costs nothing."""
    return float(sum(map(ord, answer)) % 7) / 3


def _particles(n: int, aligner: Aligner, conversations: list[Any]) -> Usage:
    strategy = Particles(
        n=n, segmenter=FixedSize(_SEGMENT), ess_threshold=1.0, max_tokens=_MAX_TOKENS
    )
    outputs = aligner.chat(conversations, strategy=strategy, use_tqdm=False)
    return sum((output.alignment.usage for output in outputs), Usage())


def _bare(n: int, llm: Any, conversations: list[Any]) -> int:
    from vllm import SamplingParams

    params = SamplingParams(n=n, temperature=1.0, max_tokens=_MAX_TOKENS)
    outputs = llm.chat(conversations, params, use_tqdm=False)
    return sum(len(answer.token_ids) for output in outputs for answer in output.outputs)


def _compared(n: int, aligner: Aligner, llm: Any, conversations: list[Any], repeats: int) -> str:
    ratios, runs = [], []
    for repeat in range(repeats + 1):
        seconds, usage = _timed(lambda: _particles(n, aligner, conversations))
        bare_seconds, tokens = _timed(lambda: _bare(n, llm, conversations))
        if repeat:  # the first round fills caches
            ratios.append(usage.policy_tokens_drawn / seconds / (tokens / bare_seconds))
            runs.append((seconds, usage))
    seconds, usage = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    return (
        f"n = {n:<3} tokens/s of particles / bare = {statistics.median(ratios):.2f}   "
        f"({_speed(usage, seconds)})"
    )


def _speed(usage: Usage, seconds: float) -> str:
    cached = usage.cached_tokens / usage.prompt_tokens
    return (
        f"{usage.policy_requests / seconds:,.0f} steps/s, "
        f"{usage.policy_tokens_drawn / seconds:,.0f} tokens/s, {cached:.0%} of prefixes cached"
    )


def _prompts_at_once(n: int, aligner: Aligner, conversations: list[Any]) -> str:
    """Prompts do not wait for each other: many take less time than one after the other."""
    together, _ = _timed(lambda: _particles(n, aligner, conversations))
    apart, _ = _timed(lambda: [_particles(n, aligner, [one]) for one in conversations])
    return (
        f"n = {n}: {len(conversations)} prompts at once take {together / apart:.2f} of the time "
        "of one after the other"
    )


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result
