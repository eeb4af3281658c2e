"""aligned(): inside a block, `LLM.generate` and `LLM.chat` return aligned answers."""

import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsalign.aligner.aligner import Aligner
from rsalign.aligner.requests import OnError, check_on_error
from rsalign.core.budget import Budget
from rsalign.core.errors import ConfigError
from rsalign.core.journal import Journal
from rsalign.drop_in.vllm_call import VllmCall
from rsalign.engines.vllm.environment import import_vllm, is_cpu_build
from rsalign.engines.vllm.logits_processors import model_runner
from rsalign.words.named_parts import PartLike
from rsalign.words.parts import EngineArguments, RewardLike, StrategyLike

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
    parts: Mapping[str, PartLike] | None = None,
) -> Iterator[Aligner]:
    """Makes `llm.generate` and `llm.chat` return aligned answers while the block is open.

    Both take the arguments that vLLM's methods take, and return vLLM's `RequestOutput`; each has an
    attribute ``alignment`` (`Alignment`), and its completions, best first, have a ``reward``. An
    argument that cannot be honoured is refused. A prompt chooses its own strategy by
    ``SamplingParams(extra_args=...)``: ``{"rsalign": "best_of", "rsalign_n": 8}``, or
    ``{"rsalign": "none"}`` for the engine's own sampling. `enqueue` and `enqueue_chat` are refused;
    all other methods are unchanged.

    When the block ends, by an exception or not, the engine is as it was. Blocks nest: the innermost
    answers, and they may end in any order. They hold for all threads, and one call is answered at a
    time; a reward must therefore not call the engine that it judges.

    Prompts are numbered through the block, call after call. So the answers are those of one
    `Aligner.generate` over all prompts, and asking the same again gives another draw. A
    prompt with a `SamplingParams.seed` depends on that seed and on its place in its call instead.

    Args:
        llm: a running `vllm.LLM`.
        reward: as `Aligner` takes it.
        strategy: how answers are drawn; each prompt's ``max_tokens`` sets their length.
        seed: root of all randomness.
        budget: hard limits for each prompt.
        reward_args: for the reward's engine, if we start it.
        journal: as `Aligner` takes it.
        on_error: ``"raise"`` ends a call at its first failure, whose `finished` holds the
            complete `AlignedOutput`; ``"return"`` answers the others, and the output of a prompt
            that failed has its ``error``, and empty answers with finish reason ``"error"``.
        parts: as `Aligner` takes them.

    Yields:
        The aligner that answers.

    Raises:
        ConfigError: if `llm` is no `vllm.LLM`, or an argument cannot work; nothing is changed.

    Example::

        with rsalign.aligned(llm, reward=REWARD, strategy=BestOf(n=8)):
            evaluate(llm)  # any code that calls llm.generate or llm.chat
    """
    _check_llm(llm)
    check_on_error(on_error)
    with Aligner(
        llm,
        reward,
        strategy,
        seed=seed,
        budget=budget,
        reward_args=reward_args,
        journal=journal,
        parts=parts,
    ) as aligner:
        block = _Block(aligner, on_error)
        methods = _enter(llm, block)
        try:
            yield aligner
        finally:
            methods.leave(block)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """One open block.

    Attributes:
        aligner: answers its calls.
        on_error: what a prompt that fails does to its call.
        numbers: the next names of prompts.
    """

    aligner: Aligner
    on_error: OnError
    numbers: Iterator[int] = field(default_factory=itertools.count)


class _PatchedMethods:
    """Replaces the methods of one engine while blocks over it are open."""

    def __init__(self, llm: "LLM") -> None:
        self._llm = llm
        self._originals = {name: getattr(llm, name) for name in (*_ANSWERED, *_REFUSED)}
        # what the caller had put on the instance, and gets back
        self._overridden = {name: vars(llm)[name] for name in self._originals if name in vars(llm)}
        self._replacements = {name: self._replace(name) for name in self._originals}
        self._blocks: list[_Block] = []  # the innermost is the last
        self._call = threading.Lock()
        vars(llm).update(self._replacements)

    def enter(self, block: _Block) -> None:
        self._blocks.append(block)

    def leave(self, block: _Block) -> None:
        """Ends a block, after a call that another thread has open."""
        with self._call, _LOCK:
            self._blocks.remove(block)
            if not self._blocks:
                del _PATCHED[id(self._llm)]
                self._restore()

    def _restore(self) -> None:
        attributes = vars(self._llm)
        for name, replacement in self._replacements.items():
            if attributes.get(name) is not replacement:
                continue  # somebody has replaced it since, and will put it back
            del attributes[name]
            if name in self._overridden:
                attributes[name] = self._overridden[name]

    def _replace(self, name: str) -> Any:
        original = self._originals[name]

        @functools.wraps(original)
        def method(*args: Any, **kwargs: Any) -> Any:
            if not self._blocks:  # the caller kept the method beyond the block
                return original(*args, **kwargs)
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
                if not self._blocks:  # the block ended in another thread meanwhile
                    return original(*args, **kwargs)
                block = self._blocks[-1]
                call = VllmCall.read(self._llm, name, original, args, kwargs)
                return call.answer(block.aligner, block.numbers, block.on_error)
            finally:
                self._call.release()

        return method


_PATCHED: dict[int, _PatchedMethods] = {}
"""By ``id`` of the engine; it is alive while a block is open."""
_LOCK = threading.Lock()


def _enter(llm: "LLM", block: _Block) -> _PatchedMethods:
    with _LOCK:
        if id(llm) not in _PATCHED:
            _PATCHED[id(llm)] = _PatchedMethods(llm)
        _PATCHED[id(llm)].enter(block)
        return _PATCHED[id(llm)]


def _check_llm(llm: Any) -> None:
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
    config = llm.llm_engine.vllm_config
    splits = config.scheduler_config.enable_chunked_prefill and model_runner(config) == "v1"
    if is_cpu_build() and splits:
        logger.warning(
            "%s runs with chunked prefill, with which vLLM on CPUs dies of a seeded request whose "
            "prompt it splits: start it with enable_chunked_prefill=False and "
            "max_num_batched_tokens of at least max_model_len",
            llm.model_config.model,
        )
