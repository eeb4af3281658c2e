"""What guided sampling costs next to its floor: the policy and the guide, each drawing by itself.

Three engines' worth of work in one process, on the same prompts, every response of the same length:
the policy draws; the guide, in an engine of its own, draws as many tokens; the policy draws under
the guide. The floor is the first two together. Nothing can be below it that runs both models on
each token with vLLM's own kernels; the guide runs with those of `transformers`.

That a guide reads each token once is seen in the last column: tokens that went through it for each
token drawn, in the last quarter of long responses.

On CPU seconds are those of this process on the processor; on GPU those of the wall.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rsalign.core.key import Key
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.building import engine_arguments, keep_host_random_state
from rsalign.engines.vllm.environment import import_vllm, is_cpu_build, temporary_environment
from rsalign.engines.vllm.logits_processors import running_logits_processors
from rsalign.hooks.guided.request import start_arguments, write_guidance
from rsalign.hooks.loading import hook_path

_NUM_TOKENS = 96
_now = time.process_time if is_cpu_build() else time.perf_counter


def report(policy: str, guide: str, *, concurrencies: Sequence[int], repeats: int) -> Iterator[str]:
    """Lines of the table, as they are known.

    Args:
        policy: Hugging Face id or path.
        guide: likewise; of the same vocabulary.
        concurrencies: how many requests are open at once, for each line.
        repeats: rounds; medians over them are shown.

    Raises:
        ConfigError: if the guide cannot guide the policy.
    """
    with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"), keep_host_random_state():
        guided, alone = _engine(policy, [guide]), _engine(guide, [])
    tokenizer = guided.get_tokenizer()
    prompts = [
        tokenizer.encode(problem.question) for problem in problems("heldout", max(concurrencies))
    ]
    yield f"{_NUM_TOKENS} tokens for each request; tokens/s"
    columns = f"{'policy':>10}{'guide':>10}{'guided':>10}{'floor / guided':>16}{'read / drawn':>14}"
    yield f"{'requests at once':<18}{columns}"
    for concurrency in concurrencies:
        asked = prompts[:concurrency]
        rounds = []
        for number in range(repeats + 1):
            times = (
                _seconds(guided, asked, _NUM_TOKENS),
                _seconds(alone, asked, _NUM_TOKENS),
                _seconds(guided, asked, _NUM_TOKENS, alpha=1.0),
            )
            if number:  # the first round fills caches
                rounds.append(times)
        own, reading, both = (
            concurrency * _NUM_TOKENS / statistics.median(column)
            for column in zip(*rounds, strict=True)
        )
        ratio = statistics.median((first + second) / third for first, second, third in rounds)
        yield (
            f"{concurrency:<18}{own:>10,.0f}{reading:>10,.0f}{both:>10,.0f}{ratio:>16.2f}"
            f"{_read_late(guided, asked):>14.2f}"
        )


def _seconds(
    llm: Any, prompts: Sequence[Sequence[int]], num_tokens: int, *, alpha: float = 0.0
) -> float:
    from vllm import SamplingParams, TokensPrompt

    params = [
        SamplingParams(
            max_tokens=num_tokens,
            ignore_eos=True,
            seed=Key(0, ("bench", i)).seed(),
            detokenize=False,
            extra_args=write_guidance((alpha,)) or None,
        )
        for i in range(len(prompts))
    ]
    tokens = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
    started = _now()
    llm.generate(tokens, params, use_tqdm=False)
    return _now() - started


def _read_late(llm: Any, prompts: Sequence[Sequence[int]]) -> float:
    """Tokens that the guide reads for each one drawn, between two lengths of the same responses."""
    (hook,) = [p for p in running_logits_processors(llm.llm_engine) if type(p).__name__ == "Guided"]
    (model,) = hook.guides.models.values()
    read = []
    for num_tokens in (_NUM_TOKENS * 3 // 4, _NUM_TOKENS):
        before = model.num_read
        _seconds(llm, prompts, num_tokens, alpha=1.0)
        read.append(model.num_read - before)
    return float(read[1] - read[0]) / (len(prompts) * (_NUM_TOKENS - _NUM_TOKENS * 3 // 4))


def _engine(model: str, guides: Sequence[str]) -> Any:
    vllm = import_vllm()
    arguments = engine_arguments(model, start_arguments(guides, {}), pooling=False)
    if guides:
        config = vllm.EngineArgs(**arguments).create_engine_config()
        arguments["logits_processors"] = [hook_path(config, "Guided")]
    return vllm.LLM(**arguments)
