"""Requests of rsalign as vLLM's parameters, and vLLM's outputs as results of rsalign."""

import json
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import PolicyError
from rsalign.core.protocols import Ranked
from rsalign.core.types import Tokens
from rsalign.engines.protocol import DrawRequest, DrawResult, ScoreRequest, ScoreResult
from rsalign.engines.vllm.release import SINCE_0_30

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams


def sampling_params(request: DrawRequest, *, cumulative: bool = False) -> "SamplingParams":
    """Returns vLLM's parameters for a request.

    Args:
        request: what to draw.
        cumulative: whether vLLM returns an output, with all tokens so far, whenever more are drawn;
            False: only the final one.
    """
    # not from vllm itself, which looks the name up anew each time
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    law, options = request.sampling, request.options
    grammar = json.loads(law.structured_outputs) if law.structured_outputs else None
    output_kind = RequestOutputKind.CUMULATIVE if cumulative else RequestOutputKind.FINAL_ONLY
    num_log_probs = options.num_logprobs or request.num_log_probs
    seed, extra_args = request.seed, dict(request.hook_arguments)
    if (code := options.code) is not None:  # the token that a code chooses is certain to vLLM
        seed, num_log_probs, extra_args = code.seed, None, extra_args | code.book.extra_args
    params = SamplingParams(
        temperature=law.temperature,
        top_p=law.top_p,
        top_k=law.top_k,
        min_p=law.min_p,
        repetition_penalty=law.repetition_penalty,
        logit_bias=dict(law.logit_bias) or None,
        allowed_token_ids=list(law.allowed_token_ids) or None,
        stop=list(request.stop) or None,
        stop_token_ids=[*law.stop_token_ids, *request.stop_token_ids] or None,
        extra_args=extra_args or None,
        max_tokens=request.max_tokens,
        ignore_eos=law.ignore_eos,
        min_tokens=min(law.min_tokens, request.max_tokens),
        presence_penalty=law.presence_penalty,
        frequency_penalty=law.frequency_penalty,
        bad_words=list(law.bad_words) or None,
        structured_outputs=StructuredOutputsParams(**grammar) if grammar else None,
        thinking_token_budget=law.thinking_token_budget,
        # the prefix cache has no log-probabilities
        skip_reading_prefix_cache=options.skip_reading_prefix_cache
        or (request.prompt_log_probs and not request.scored_from),
        seed=seed,
        # vLLM takes one of the two
        logprobs=None if options.logprob_token_ids else num_log_probs,
        logprob_token_ids=list(options.logprob_token_ids) or None,
        prompt_logprobs=0 if request.prompt_log_probs else None,
        # lists of numbers instead of an object for each token
        flat_logprobs=not (options.lists_log_probs or request.prompt_log_probs),
        # stop strings can only be found in text; whole responses are decoded by the policy
        detokenize=bool(request.stop),
        output_kind=output_kind,
    )
    if SINCE_0_30 and options.watermarking is not None:  # older releases have no watermarks
        params.watermarking = options.watermarking
    return params


def draw_result(output: "RequestOutput", request: DrawRequest) -> DrawResult:
    """Returns vLLM's final output of a request as our own.

    Raises:
        PolicyError: if the engine returned no log-probabilities of the prompt, but they were asked
            for.
    """
    drawn = output.outputs[0]
    tokens = tuple(drawn.token_ids)
    log_probs, listed = drawn.logprobs, None
    if log_probs is not None and request.options.lists_log_probs:
        listed = tuple(log_probs)
        log_probs = tuple(each[token].logprob for token, each in zip(tokens, listed, strict=True))
    elif log_probs is not None:
        log_probs = tuple(log_probs.logprobs)
    return DrawResult(
        tokens=tokens,
        log_probs=log_probs,
        listed=listed,
        prompt_log_probs=_prompt_log_probs(output, request),
        text=drawn.text,
        finish_reason=drawn.finish_reason,
        stop_reason=drawn.stop_reason,
        num_cached_tokens=output.num_cached_tokens or 0,
    )


def _prompt_log_probs(
    output: "RequestOutput", request: DrawRequest
) -> tuple[Ranked | None, ...] | None:
    if not request.prompt_log_probs:
        return None
    if output.prompt_logprobs is None:
        raise PolicyError("the engine returned no log-probabilities of the prompt")
    first = request.scored_from
    if first and (output.num_cached_tokens or 0) >= first:
        return None  # the last cached token would have told of the next one
    # of cached tokens there is nothing, or what the engine's memory held before
    num_scored = len(request.prompt) - first
    scored = output.prompt_logprobs[-num_scored:] if first else output.prompt_logprobs
    return (None,) * first + tuple(
        None if each is None else Ranked(each[token].logprob, rank=each[token].rank)
        for each, token in zip(scored, request.prompt[first:], strict=True)
    )


def drawn_tokens(output: "RequestOutput") -> Tokens:
    """Returns the tokens of an output that need not be final."""
    return tuple(output.outputs[0].token_ids)


def pooling_params(request: ScoreRequest, *, classifies: bool = True) -> "PoolingParams":
    """Returns vLLM's parameters for a request to a reward model.

    Args:
        request: what to score.
        classifies: whether the engine scores whole sequences. The reward models that vLLM has
            classes of its own for (Qwen2ForRewardModel, InternLM2ForRewardModel) score tokens only:
            the score of a sequence is that of its last token, which is always computed.
    """
    from vllm import PoolingParams

    second = request.second_begins
    types = None if second is None else {"compressed_token_type_ids": second}
    if not request.each_token and classifies:
        return PoolingParams(task="classify", use_activation=False, extra_kwargs=types)
    return PoolingParams(
        task="token_classify",
        use_activation=False,
        skip_reading_prefix_cache=not request.read_cache,
        extra_kwargs=types,
    )


def score_result(output: "PoolingRequestOutput[Any]", request: ScoreRequest) -> ScoreResult:
    """Returns vLLM's output of a request to a reward model as our own."""
    data = output.outputs.data
    rows = data if request.each_token else (data[-1:] if data.dim() > 1 else data[None])
    return ScoreResult(
        scores=tuple(map(tuple, rows.tolist())), num_cached_tokens=output.num_cached_tokens or 0
    )
