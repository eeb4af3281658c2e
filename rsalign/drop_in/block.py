"""aligned(): for the length of a block, code that calls a `vllm.LLM` gets aligned answers."""

import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsalign.aligner.aligner import Aligner
from rsalign.aligner.requests import OnError, check_on_error
from rsalign.core.budget import Budget
from rsalign.core.errors import ConfigError
from rsalign.core.journal import Journal
from rsalign.core.protocols import Strategy
from rsalign.drop_in.vllm_call import VllmCall
from rsalign.engines.vllm.guards import import_vllm, is_cpu_build
from rsalign.strategies.plain import Plain
from rsalign.words.parts import EngineArguments, RewardLike, StrategyLike, strategy_from

if TYPE_CHECKING:
    from vllm import LLM

logger = logging.getLogger(__name__)

_ANSWERED = ("generate", "chat")
_REFUSED = ("enqueue", "enqueue_chat")


@contextlib.contextmanager
def aligned(
    llm: "LLM",
    reward: "RewardLike | None" = None,
    strategy: StrategyLike | None = None,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    reward_args: EngineArguments | None = None,
    journal: str | Path | Journal | None = None,
    on_error: OnError = "raise",
) -> Iterator[Aligner]:
    """Aligns what calls `llm.generate` and `llm.chat`, for the length of the block.

    They take what vLLM's take and return vLLM's `RequestOutput`, each with an attribute
    ``alignment`` (`Alignment`), and its completions, best first, with one ``reward``. What cannot
    be honoured is refused. A request chooses for itself by ``SamplingParams(extra_args=...)``:
    ``{"rsalign": "best_of", "rsalign_n": 8}`` for another strategy, ``{"rsalign": "none"}`` for the
    engine's own sampling, as it is outside the block. All other methods are the engine's own, but
    for `enqueue` and `enqueue_chat`, which are refused.

    At the end, however it comes, the engine is as it was. Blocks nest; the innermost counts, and
    they may end in any order. They count for all threads; one call is answered at a time, so that
    a reward must not ask the engine that it judges.

    Prompts are numbered through the block, call after call: answers are those of one
    `Aligner.generate` over all of them, and asking the same again gives another draw. A
    `SamplingParams.seed` counts instead where there is one.

    Args:
        llm: a running `vllm.LLM`.
        reward: as `Aligner` takes it.
        strategy: how answers are drawn; its length is set by each request's ``max_tokens``.
        seed: root of all randomness.
        budget: hard limits for each prompt.
        reward_args: for the reward's engine, if we start it.
        journal: as `Aligner` takes it.
        on_error: ``"raise"`` ends a call at its first failure, whose `finished` holds the
            `AlignedOutput` of what was complete; ``"return"`` answers the others, and the output of
            a prompt that failed has its ``error``, and empty answers that ended with ``"error"``.

    Yields:
        The aligner that answers.

    Raises:
        ConfigError: if `llm` is none, or anything given cannot work; nothing is changed then.

    Example::

        with rsalign.aligned(llm, reward=REWARD, strategy=BestOf(n=8)):
            evaluate(llm)  # any code that calls llm.generate or llm.chat
    """
    _check(llm)
    check_on_error(on_error)
    strategy = Plain() if strategy is None else strategy_from(strategy)
    with Aligner(
        llm,
        reward,
        strategy,
        seed=seed,
        budget=budget,
        reward_args=reward_args,
        journal=journal,
    ) as aligner:
        block = _Block(aligner, strategy, on_error)
        methods = _enter(llm, block)
        try:
            yield aligner
        finally:
            methods.leave(block)


class _Block:
    """One open block.

    Attributes:
        aligner: answers its calls.
        strategy: of a request that asks for none.
        on_error: what a prompt that fails does to its call.
        numbers: of its prompts.
    """

    def __init__(self, aligner: Aligner, strategy: Strategy, on_error: OnError) -> None:
        self.aligner = aligner
        self.strategy = strategy
        self.on_error = on_error
        self.numbers = itertools.count()


class _Methods:
    """Stands in for the methods of one engine while blocks over it are open."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._own = {name: getattr(llm, name) for name in (*_ANSWERED, *_REFUSED)}
        self._before = {name: vars(llm)[name] for name in self._own if name in vars(llm)}
        self._ours = {name: self._stand_in(name) for name in self._own}
        self._blocks: list[_Block] = []
        self._call = threading.Lock()
        vars(llm).update(self._ours)

    def enter(self, block: _Block) -> None:
        self._blocks.append(block)

    def leave(self, block: _Block) -> None:
        """Waits for a call that another thread has open."""
        with self._call, _LOCK:
            self._blocks.remove(block)
            if self._blocks:
                return
            del _OPEN[id(self._llm)]
            attributes = vars(self._llm)
            for name, ours in self._ours.items():
                if attributes.get(name) is not ours:
                    continue  # somebody has replaced it since, and will put it back
                del attributes[name]
                if name in self._before:
                    attributes[name] = self._before[name]

    def _stand_in(self, name: str) -> Any:
        own = self._own[name]

        @functools.wraps(own)
        def method(*args: Any, **kwargs: Any) -> Any:
            if not self._blocks:  # it was kept beyond the block
                return own(*args, **kwargs)
            if name in _REFUSED:
                raise ConfigError(
                    f"{name}() only adds to the engine's queue, and an aligned answer takes more "
                    "than one request: call generate() or chat(), or leave the block"
                )
            if not self._call.acquire(blocking=False):
                raise ConfigError(
                    f"{name}() was called while an aligned call on the same engine is open, from "
                    "another thread or by its reward: make one call at a time, and give a reward "
                    "that generates an engine of its own"
                )
            try:
                if not self._blocks:  # the block has ended while the call was let in
                    return own(*args, **kwargs)
                block = self._blocks[-1]
                call = VllmCall.read(self._llm, name, own, block.strategy, args, kwargs)
                return call.answer(block.aligner, block.numbers, block.on_error)
            finally:
                self._call.release()

        return method


_OPEN: dict[int, _Methods] = {}
_LOCK = threading.Lock()


def _enter(llm: Any, block: _Block) -> _Methods:
    with _LOCK:
        if id(llm) not in _OPEN:
            _OPEN[id(llm)] = _Methods(llm)
        _OPEN[id(llm)].enter(block)
        return _OPEN[id(llm)]


def _check(llm: Any) -> None:
    import_vllm()
    from vllm import LLM

    if not isinstance(llm, LLM):
        raise ConfigError(
            f"aligned() works on a vllm.LLM, and this is a {type(llm).__name__}: for an AsyncLLM "
            "there is rsalign.serve.client.AlignedClient, for all else Aligner"
        )
    if llm.model_config.runner_type != "generate":
        raise ConfigError(
            f"{llm.model_config.model} was started to judge, not to generate: give the policy's LLM"
        )
    if is_cpu_build() and llm.llm_engine.vllm_config.scheduler_config.enable_chunked_prefill:
        logger.warning(
            "%s runs with chunked prefill, with which vLLM on CPUs dies of a seeded request whose "
            "prompt it splits: start it with enable_chunked_prefill=False and "
            "max_num_batched_tokens of at least max_model_len",
            llm.model_config.model,
        )
