"""What one step of a bare engine costs, by the number of requests in it.

Drawing: each request draws one token a step; bare, and with a seed and log-probabilities, as all
requests of rsalign have. Reading: a prompt is computed at once, by the policy or by the reward
model. On CPU seconds are those of this process on the processor.
"""

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from eval.bench.bare_engine import bare_engine
from rsalign.core.key import Key
from rsalign.engines.vllm.environment import is_cpu_build

_LENGTH = 32
_DRAWN = 24
_now = time.process_time if is_cpu_build() else time.perf_counter


def report(policy: str, reward: str, *, requests: Sequence[int], repeats: int) -> Iterator[str]:
    """Lines of the tables, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        requests: numbers of requests in a step.
        repeats: of each measurement; medians are shown.
    """
    drawing = bare_engine(policy, pooling=False)
    yield (
        f"{'requests':>10}{'ms a step, drawing':>22}{'with seeds, log-probs':>24}"
        f"{'ms a token read':>18}"
    )
    for number in requests:
        bare = _draw(drawing, number, repeats, seeded=False)
        seeded = _draw(drawing, number, repeats, seeded=True)
        read = min(bare[0], seeded[0]) / (number * _LENGTH)
        yield f"{number:>10}{1e3 * bare[1]:>22.1f}{1e3 * seeded[1]:>24.1f}{1e3 * read:>18.2f}"
    judging = bare_engine(reward, pooling=True)
    yield f"{'requests':>10}{'ms a token judged':>22}"
    for number in requests:
        yield f"{number:>10}{1e3 * _judge(judging, number, repeats) / (number * _LENGTH):>22.2f}"


def _draw(llm: Any, number: int, repeats: int, *, seeded: bool) -> tuple[float, float]:
    """Seconds of the step that reads all prompts, and of one that draws."""
    from vllm import SamplingParams, TokensPrompt

    engine, first, later = llm.llm_engine, [], []
    for repeat in range(repeats):
        for i, prompt in enumerate(_prompts(llm, number, repeat, seeded)):
            params = SamplingParams(
                max_tokens=_DRAWN,
                ignore_eos=True,
                seed=i if seeded else None,
                logprobs=0 if seeded else None,
                flat_logprobs=seeded,
                detokenize=False,
            )
            engine.add_request(
                f"{number}-{seeded}-{repeat}-{i}", TokensPrompt(prompt_token_ids=prompt), params
            )
        steps = list(_steps(engine))
        first.append(steps[0])
        later += steps[1:]
    return median(first), median(later)


def _judge(llm: Any, number: int, repeats: int) -> float:
    """Seconds to score so many texts at once."""
    from vllm import PoolingParams, TokensPrompt

    engine, seconds = llm.llm_engine, []
    for repeat in range(repeats):
        for i, prompt in enumerate(_prompts(llm, number, repeat, seeded=False)):
            params = PoolingParams(task="classify", use_activation=False)
            engine.add_request(
                f"{number}-{repeat}-{i}", TokensPrompt(prompt_token_ids=prompt), params
            )
        seconds.append(sum(_steps(engine)))
    return median(seconds)


def _steps(engine: Any) -> Iterator[float]:
    while engine.has_unfinished_requests():
        started = _now()
        engine.step()
        yield _now() - started


def _prompts(llm: Any, number: int, repeat: int, seeded: bool) -> Iterator[list[int]]:
    """Prompts that nothing in the prefix cache begins like."""
    size = llm.llm_engine.model_config.get_vocab_size()
    for i in range(number):
        key = Key(repeat, (number, int(seeded), i))
        yield [key.child(j).below(size) for j in range(_LENGTH)]
