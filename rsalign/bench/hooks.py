"""What the logits hooks cost the engine: throughput with them next to that without.

Two engines of the same settings, in this process: one without hooks, one with all of them. They
answer the same prompts in turn, every response of the same length, and whoever asks for a hook asks
for an end that never comes. Requests are what `VllmPolicy` sends: seeded, with log-probabilities.

A hook's time has two parts. One grows with rows times vocabulary: the pass over the logits, which
is small next to the model's own. The other is that of starting an operation, some microseconds for
each of some twenty, whatever the model: with a small model, whose step takes milliseconds, it is
most of what is seen; with a large one nothing. The last column is measured inside the hooks.

The goal is that hooks which are loaded and asked by nobody cost less than 1 % of the engine's time.

On CPU seconds are those of this process on the processor, so that others who share the cores count
less; on GPU those of the wall.
"""

import contextlib
import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.embedded.problems import problems
from rsalign.engines.reports import open_ticket
from rsalign.engines.vllm.building import engine_arguments, keep_host_random_state
from rsalign.engines.vllm.environment import import_vllm, is_cpu_build, temporary_environment
from rsalign.hooks.loading import add_hooks
from rsalign.hooks.segment_end.sentinel import choose_sentinel
from rsalign.segments import Entropy, Punctuation

_MAX_TOKENS = 64
_NEVER = 99.0  # nats; more than the entropy of any law over fewer than e^99 tokens
_STEPS = ("update_state", "add_request", "apply_staged_writes", "apply")
_now = time.process_time if is_cpu_build() else time.perf_counter


@dataclass(slots=True)
class _Case:
    """One way to ask.

    Attributes:
        name: in the table.
        extra_args: of every request.
        ticket: the key of a request's own ticket, which nobody shares; empty: it has none.
        hooked: whether the engine has hooks.
        seconds: of each round.
        hook_seconds: of those, inside the hooks.
    """

    name: str
    extra_args: Mapping[str, Any] = field(default_factory=dict)
    ticket: str = ""
    hooked: bool = True
    seconds: list[float] = field(default_factory=list)
    hook_seconds: list[float] = field(default_factory=list)


def report(model: str, *, requests: int, repeats: int) -> Iterator[str]:
    """Lines of the table.

    Args:
        model: Hugging Face id or path.
        requests: open at once.
        repeats: rounds; each asks in every way, and medians over rounds are shown.

    Raises:
        ConfigError: if the model's tokenizer has no spare token that could end a segment.
    """
    watch = _Watch()
    with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"), keep_host_random_state():
        bare, hooked = _engine(model, None), _engine(model, watch)
    tokenizer = bare.get_tokenizer()
    sentinel = choose_sentinel(tokenizer, bare.model_config.get_vocab_size(), ())
    if sentinel is None:
        raise ConfigError(f"the tokenizer of {model} has no spare token: take another model")
    prompts = [
        tokenizer.encode(problem.question, add_special_tokens=True)
        for problem in problems("heldout", requests)
    ]
    ends = {"rsalign_sentinel": sentinel}
    cases = [
        _Case("without hooks", hooked=False),
        _Case("loaded, nobody asks"),
        _Case(
            "all ask: Entropy",
            {**Entropy(_NEVER).engine_arguments, **ends},
            ticket="rsalign_report",
        ),
        _Case(
            "all ask: Punctuation",
            {**Punctuation(".", _NEVER).engine_arguments, **ends},
            ticket="rsalign_report",
        ),
        _Case("all ask: token statistics", ticket="rsalign_statistics"),
    ]
    for number in range(repeats + 1):
        start = number % len(cases)
        for case in cases[start:] + cases[:start]:
            watch.seconds = 0.0
            seconds = _answer(hooked if case.hooked else bare, prompts, case, sentinel)
            if number:  # the first round fills caches
                case.seconds.append(seconds)
                case.hook_seconds.append(watch.seconds)
    yield from _table(cases, requests)


def _table(cases: Sequence[_Case], requests: int) -> Iterator[str]:
    yield f"{requests} requests at once, {_MAX_TOKENS} tokens each"
    yield f"{'':<28}{'tokens/s':>10}{'throughput':>12}{'in the hooks':>30}"
    base = cases[0].seconds
    for case in cases:
        tokens = requests * _MAX_TOKENS / statistics.median(case.seconds)
        ratio = statistics.median(b / s for b, s in zip(base, case.seconds, strict=True))
        inside = statistics.median(
            h / s for h, s in zip(case.hook_seconds, case.seconds, strict=True)
        )
        step = statistics.median(case.hook_seconds) / _MAX_TOKENS
        share = f"{inside:6.1%} ({step * 1e6:4.0f} us a step)" if case.hooked else ""
        yield f"{case.name:<28}{tokens:>10,.0f}{ratio:>12.3f}{share:>30}"


def _answer(llm: Any, prompts: Sequence[Sequence[int]], case: _Case, sentinel: int) -> float:
    """Seconds for all prompts."""
    from vllm import SamplingParams, TokensPrompt

    asks = "rsalign_sentinel" in case.extra_args
    with contextlib.ExitStack() as stack:
        params = [
            SamplingParams(
                max_tokens=_MAX_TOKENS,
                ignore_eos=True,
                seed=Key(0, ("bench", i)).seed(),
                logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                stop_token_ids=[sentinel] if asks else None,
                extra_args=_asked(case, stack) or None,
            )
            for i in range(len(prompts))
        ]
        tokens = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        started = _now()
        llm.generate(tokens, params, use_tqdm=False)
        return _now() - started


def _asked(case: _Case, stack: contextlib.ExitStack) -> dict[str, Any]:
    """The `extra_args` of one request; its ticket is forgotten when `stack` ends."""
    ticket = {case.ticket: stack.enter_context(open_ticket())} if case.ticket else {}
    return {**case.extra_args, **ticket}


@dataclass(slots=True)
class _Watch:
    """Seconds spent inside hooks."""

    seconds: float = 0.0

    def timed(self, path: str) -> type:
        """A hook by its path, with its calls timed."""
        module, _, name = path.partition(":")
        hook = getattr(importlib.import_module(module), name)

        def timed(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                started = _now()
                result = method(*args)
                self.seconds += _now() - started
                return result

            return call

        methods = {each: timed(getattr(hook, each)) for each in _STEPS if hasattr(hook, each)}
        return type(f"Timed{name}", (hook,), methods)


def _engine(model: str, watch: _Watch | None) -> Any:
    vllm = import_vllm()
    arguments = engine_arguments(model, {}, pooling=False)
    if watch is not None:
        config = vllm.EngineArgs(**arguments).create_engine_config()
        add_hooks(config)  # all that our engines have
        arguments["logits_processors"] = [
            watch.timed(path) for path in config.model_config.logits_processors
        ]
    return vllm.LLM(**arguments)
