"""What the controller costs next to the bare engine.

Everything compared runs in one process, in turn, on engines of the same settings: rsalign through
`Aligner`, the bare engine through `vllm.LLM` as its users call it. A ratio above 1 means that
rsalign was faster; it overlaps drawing with scoring, which the bare calls cannot.
"""

import asyncio
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from rsalign.aligner import Aligner
from rsalign.core.align import align
from rsalign.core.tasks import concurrently
from rsalign.core.types import Message, Prompt, Response, Stop
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.building import engine_arguments, few_processes
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.starting import adopt_engine
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.vllm import VllmReward
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.plain import Plain
from rsalign.testing import ToyPolicy, ToyReward

_MAX_TOKENS = 96
_CONCURRENCIES = (1, 16, 64, 256)
_NUM_TOY_PROMPTS = 10_000


def report(
    policy: str, reward: str, *, repeats: int, n: int = 16, num_prompts: int = 64
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        repeats: of each comparison; one more fills caches.
        n: candidates of best-of-n.
        num_prompts: that best-of-n answers at once.
    """
    with few_processes():
        llm, judge = _bare(policy, pooling=False), _bare(reward, pooling=True)
    drawing, judging = VllmPolicy.adopt(llm), VllmReward(adopt_engine(judge))
    with Aligner(drawing, judging) as aligner:
        conversations = [
            [{"role": "user", "content": problem.question}]
            for problem in problems("heldout", max(num_prompts, *_CONCURRENCIES))
        ]
        yield from _best_of(aligner, llm, judge, conversations[:num_prompts], n, repeats)
        yield from _plain(aligner, llm, conversations, repeats)
    yield from _controller()


def _bare(model: str, *, pooling: bool) -> Any:
    vllm = import_vllm()
    return vllm.LLM(**engine_arguments(model, {}, pooling=pooling))


def _best_of(
    aligner: Aligner, llm: Any, judge: Any, conversations: list[Any], n: int, repeats: int
) -> Iterator[str]:
    from vllm import PoolingParams, SamplingParams, TokensPrompt

    rendering = Rendering(judge.get_tokenizer(), judge.model_config.max_model_len)
    params = SamplingParams(n=n, temperature=1.0, max_tokens=_MAX_TOKENS)

    def bare() -> int:
        outputs = llm.chat(conversations, params, use_tqdm=False)
        texts = []
        for conversation, output in zip(conversations, outputs, strict=True):
            messages = tuple(Message(**message) for message in conversation)
            prompt = Prompt(messages, tuple(output.prompt_token_ids))
            for answer in output.outputs:
                stop = Stop.EOS if answer.finish_reason == "stop" else Stop.LENGTH
                response = Response(tuple(answer.token_ids), answer.text, stop)
                texts.append(
                    TokensPrompt(prompt_token_ids=list(rendering.tokens(prompt, response)))
                )
        judge.encode(
            texts,
            pooling_task="classify",
            pooling_params=PoolingParams(use_activation=False),
            use_tqdm=False,
        )
        return sum(len(answer.token_ids) for output in outputs for answer in output.outputs)

    strategy = BestOf(n=n, inner=Plain(max_tokens=_MAX_TOKENS))

    def ours() -> int:
        outputs = aligner.chat(conversations, strategy=strategy, use_tqdm=False)
        return sum(output.alignment.usage.policy_tokens_drawn for output in outputs)

    yield _compared(f"BestOf(n={n}) over {len(conversations)} prompts", ours, bare, repeats)


def _plain(aligner: Aligner, llm: Any, conversations: list[Any], repeats: int) -> Iterator[str]:
    from vllm import SamplingParams

    params = SamplingParams(temperature=1.0, max_tokens=_MAX_TOKENS)
    # no reward: what is compared is drawing alone
    with Aligner(aligner.policy, None, Plain(max_tokens=_MAX_TOKENS)) as plain:
        for concurrency in _CONCURRENCIES:
            asked = conversations[:concurrency]

            def bare(asked: list[Any] = asked) -> int:
                outputs = llm.chat(asked, params, use_tqdm=False)
                return sum(len(output.outputs[0].token_ids) for output in outputs)

            def ours(asked: list[Any] = asked) -> int:
                outputs = plain.chat(asked, use_tqdm=False)
                return sum(output.alignment.usage.policy_tokens_drawn for output in outputs)

            yield _compared(f"Plain, {concurrency} at once", ours, bare, repeats)


def _compared(name: str, ours: Callable[[], int], bare: Callable[[], int], repeats: int) -> str:
    """Tokens a second of both, in turn, and the median ratio."""
    speeds: list[tuple[float, float]] = []
    for repeat in range(repeats + 1):
        pair = []
        for run in (ours, bare):
            started = time.perf_counter()
            tokens = run()
            pair.append(tokens / (time.perf_counter() - started))
        if repeat:  # the first round fills caches
            speeds.append((pair[0], pair[1]))
    ratio = statistics.median(our / their for our, their in speeds)
    our, their = (statistics.median(column) for column in zip(*speeds, strict=True))
    return f"{name:<40} rsalign / bare = {ratio:5.2f}   ({our:7.0f} and {their:7.0f} tokens/s)"


def _controller() -> Iterator[str]:
    """The controller alone: drafts a second on the toy policy, and memory over many prompts."""
    policy, reward = ToyPolicy(2), ToyReward()
    strategy = BestOf(n=4, inner=Plain(max_tokens=1))
    prompt = Prompt((Message("user", "1"),), (1,))

    async def many(first: int, count: int) -> int:
        done = 0

        async def one(seed: int) -> None:
            nonlocal done
            await align(prompt, strategy, policy=policy, reward=reward, seed=seed)
            done += 1

        await concurrently((one(seed) for seed in range(first, first + count)), limit=256)
        return done

    half = _NUM_TOY_PROMPTS // 2
    asyncio.run(many(0, half))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    done = asyncio.run(many(half, half))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield f"{'controller alone, toy policy':<40} {4 * done / seconds:,.0f} drafts/s"
    name = f"memory, prompts {half:,} to {2 * half:,}"
    yield f"{name:<40} peak grew by {(after - before) / 1024:.1f} MiB"
