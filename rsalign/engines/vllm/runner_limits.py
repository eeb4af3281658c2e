"""What vLLM's workers cannot take of a request, though vLLM itself would let it through to them.

A request that fails in a worker kills the engine, and with it all requests that are open there. The
second model runner has room for a fixed number of token ids for each request, and both runners
keep numbers in machine words; vLLM 0.32 checks these sizes in the worker only. Here they are
checked before a request is sent.
"""

import numbers
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rsalign.core.declared import quote
from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.errors import refusal_types
from rsalign.engines.vllm.text import load_tokenizer

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_LEAST_SEED = -(1 << 63)
_GREATEST_SEED = {"v1": (1 << 64) - 1, "v2": (1 << 63) - 1}
_MAX_IDS = 1024  # of allowed tokens, and of biases (worker/gpu/sample/logit_bias.py)
_MAX_STOPS = 128  # beside min_tokens, EOS included (same file)
_MAX_LENGTH = (1 << 31) - 1  # of a prompt and the tokens asked for, together


def check_runner_limits(params: "SamplingParams", config: "VllmConfig") -> None:
    """Refuses a request that would kill the engine in its worker.

    Args:
        params: of the request.
        config: of the engine.

    Raises:
        ConfigError: names the argument, its size, and the greatest size that the engine's model
            runner takes.
    """
    runner = _runner(config)
    _check_seed(params, runner)
    if runner == "v1":
        return
    for problem in _too_large_for_v2(params, config):
        raise ConfigError(
            f"{problem}: vLLM's second model runner, which this engine has, takes no more, and one "
            "request beyond it would end the engine. Ask for less, or start the engine with "
            "VLLM_USE_V2_MODEL_RUNNER=0"
        )


def _runner(config: "VllmConfig") -> str:
    """The model runner of an engine, also of one that takes no logits processors."""
    return "v2" if getattr(config, "use_v2_model_runner", False) else "v1"


def _check_seed(params: "SamplingParams", runner: str) -> None:
    seed: Any = params.seed
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise ConfigError(f"seed={quote(seed)}: give a whole number")
    last, most = int(seed) + params.n - 1, _GREATEST_SEED[runner]
    if seed < _LEAST_SEED or last > most:
        used = f" with n={params.n}, whose samples have the seeds up to {last}" * (params.n > 1)
        raise ConfigError(
            f"seed={seed}{used}: the seeds of this engine are {_LEAST_SEED} to {most}"
        )


def _too_large_for_v2(params: "SamplingParams", config: "VllmConfig") -> Iterator[str]:
    """What has no room in the second runner's tables; nothing in the case of ordinary requests."""
    if len(params.allowed_token_ids or ()) > _MAX_IDS:
        yield f"{len(params.allowed_token_ids)} allowed_token_ids, but at most {_MAX_IDS}"
    if len(params.logit_bias or ()) > _MAX_IDS:
        yield f"logit_bias of {len(params.logit_bias)} tokens, but at most {_MAX_IDS}"
    if params.min_tokens > 0 and len(params.stop_token_ids or ()) > _MAX_STOPS // 2:
        # vLLM adds EOS to them when the request arrives; no model has 64 of these
        stops = {*(params.stop_token_ids or ()), *_end_tokens(config)}
        if len(stops) > _MAX_STOPS:
            yield (
                f"{len(stops)} stop tokens, EOS included, beside min_tokens={params.min_tokens}, "
                f"but at most {_MAX_STOPS}"
            )
    most = _MAX_LENGTH - config.model_config.max_model_len
    if (params.max_tokens or 0) > most:
        yield f"max_tokens={params.max_tokens}, but at most {most}"
    if params.bad_words:
        from vllm import envs

        num_tokens = _num_bad_tokens(params, config)
        room = int(envs.VLLM_MAX_BAD_WORDS_TOTAL_TOKENS)
        if num_tokens > room:
            yield (
                f"bad_words of {num_tokens} tokens, with and without a space before them, but at "
                f"most {room} (VLLM_MAX_BAD_WORDS_TOTAL_TOKENS)"
            )


def _end_tokens(config: "VllmConfig") -> set[int]:
    """The tokens that end a response of the model, as vLLM collects them for each request."""
    declared = config.model_config.try_get_generation_config().get("eos_token_id")
    ends = {declared} if isinstance(declared, int) else set(declared or ())
    own = load_tokenizer(config.model_config).eos_token_id
    return ends if own is None else ends | {own}


def _num_bad_tokens(params: "SamplingParams", config: "VllmConfig") -> int:
    """How many tokens vLLM makes of the words; 0 if it refuses them, as it does without us."""
    read = params.clone()
    try:
        read.update_from_tokenizer(load_tokenizer(config.model_config))
    except refusal_types():
        return 0
    return sum(len(tokens) for tokens in read.bad_words_token_ids or ())
