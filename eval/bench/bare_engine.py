"""Records the requests that rsalign made, and repeats them on a bare `vllm.LLM`."""

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rsalign.core.key import Key, Label
from rsalign.core.protocols import Boundary, Policy, Reward
from rsalign.core.types import Prompt, Response, Segment, Tokens
from rsalign.core.wrapper import Wrapper
from rsalign.engines.vllm.building import engine_arguments
from rsalign.engines.vllm.environment import import_vllm, temporary_environment

Draw: TypeAlias = tuple[Tokens, int]
"""A prefix, and how many tokens were drawn after it."""

_IDS = itertools.count()


@dataclass(frozen=True, slots=True)
class RecordedPolicy(Wrapper):
    """A policy that records the draws of the policy it wraps.

    Attributes:
        draws: with the addresses of their keys, in the order they were finished.
    """

    inner: Policy
    draws: list[tuple[tuple[Label, ...], Draw]] = field(default_factory=list)

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Asks the inner policy and records the draw."""
        segment = await self.inner.extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        self.draws.append((key.path, (prefix, len(segment.tokens))))
        return segment

    def text(self, tokens: Tokens) -> str:
        """Decodes as the inner policy does."""
        return self.inner.text(tokens)


@dataclass(frozen=True, slots=True)
class RecordedReward(Wrapper):
    """A reward that records the calls of the reward it wraps."""

    inner: Reward
    asked: list[tuple[Prompt, Response]] = field(default_factory=list)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """Records the call and asks the inner reward."""
        self.asked.append((prompt, response))
        return await self.inner.score(prompt, response)


def bare_engine(model: str, *, pooling: bool) -> Any:
    """Starts a `vllm.LLM` with rsalign's arguments and without its logits processors."""
    vllm = import_vllm()
    with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
        return vllm.LLM(**engine_arguments(model, {}, pooling=pooling))


def drawing_seconds(llm: Any, chains: Iterable[Sequence[Draw]], *, num_open: int) -> float:
    """Measures how long a bare `vllm.LLM` takes to draw as many tokens after the same prefixes.

    As `LLM.generate` does it with a seed for each request and log-probabilities, which chains ask
    for, except that each chain has one open request at a time.

    Args:
        llm: draws.
        chains: the draws of each, in order.
        num_open: chains at once; where one ends, the next begins.
    """
    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    engine = llm.llm_engine
    waiting: dict[str, list[Draw]] = {}
    others = (list(reversed(chain)) for chain in chains if chain)

    def ask(later: list[Draw]) -> None:
        if not later:
            later = next(others, [])
        if not later:
            return
        prefix, length = later.pop()
        request = f"bare-{next(_IDS)}"
        params = SamplingParams(
            temperature=1.0,
            max_tokens=length,
            ignore_eos=True,
            seed=len(waiting),
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(request, TokensPrompt(prompt_token_ids=list(prefix)), params)
        waiting[request] = later

    started = time.perf_counter()
    for _ in range(num_open):
        ask([])
    while waiting:
        for output in engine.step():
            if output.finished:
                ask(waiting.pop(output.request_id))
    return time.perf_counter() - started


def forwards_per_drawn(draws: Iterable[Draw], *, block: int) -> float:
    """Counts the tokens that an engine computes for each token it draws, if it evicts nothing.

    A prefix that continues an earlier request, or that another one has read, is in the prefix cache
    up to its last whole block; at least the last token is computed, and vLLM computes a whole block
    again where a prefix ends with one.

    Args:
        draws: all requests, in any order.
        block: tokens in a block of the KV cache.

    Example:
        >>> forwards_per_drawn([((1,) * 33, 8), ((1,) * 64, 8)], block=32)
        2.9375
    """
    computed = drawn = 0
    for prefix, length in draws:
        computed += (len(prefix) - 1) % block + 1 + max(0, length - 1)
        drawn += length
    return computed / drawn


def judging_seconds(llm: Any, texts: Sequence[Tokens]) -> float:
    """Measures how long a bare `vllm.LLM` takes to score these texts, all of them at once."""
    from vllm import PoolingParams, TokensPrompt

    prompts = [TokensPrompt(prompt_token_ids=list(text)) for text in texts]
    started = time.perf_counter()
    llm.encode(
        prompts,
        pooling_task="classify",
        pooling_params=PoolingParams(use_activation=False),
        use_tqdm=False,
    )
    return time.perf_counter() - started
