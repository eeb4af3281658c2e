"""Converts sampling parameters and request options to vLLM's `SamplingParams`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rsalign.core.key import Key
from rsalign.core.types import Sampling
from rsalign.engines.options import RequestOptions
from rsalign.hooks.guided.request import write_guidance

if TYPE_CHECKING:
    from vllm import SamplingParams


def build_sampling_params(
    law: Sampling,
    options: RequestOptions,
    limit: int,
    key: Key,
    asked: Mapping[str, int | float | str],
    num_logprobs: int | None,
    stop: tuple[str, ...],
) -> "SamplingParams":
    """The parameters of one request to an engine.

    Args:
        law: the sampling parameters of the policy.
        options: further options of the request.
        limit: greatest number of new tokens.
        key: seeds the request, unless sampling is greedy.
        asked: `extra_args` for the logits processors in the engine.
        num_logprobs: number of tokens besides the sampled one whose log-probabilities are reported,
            unless `options` say otherwise; None: no log-probabilities are reported.
        stop: the stop strings that the engine shall look for.
    """
    # not from `vllm`, whose lazy attribute lookup costs time at each request
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    grammar = json.loads(law.structured_outputs) if law.structured_outputs else None
    sentinels = [asked["rsalign_sentinel"]] if "rsalign_sentinel" in asked else []
    extra_args = {**asked, **write_guidance(law.guidance)}
    listed = options.num_logprobs or num_logprobs
    return SamplingParams(
        temperature=law.temperature,
        top_p=law.top_p,
        top_k=law.top_k,
        min_p=law.min_p,
        repetition_penalty=law.repetition_penalty,
        logit_bias=dict(law.logit_bias) or None,
        allowed_token_ids=list(law.allowed_token_ids) or None,
        stop=list(stop) or None,
        stop_token_ids=[*law.stop_token_ids, *sentinels] or None,
        extra_args=extra_args or None,
        max_tokens=limit,
        ignore_eos=law.ignore_eos,
        min_tokens=min(law.min_tokens, limit),
        presence_penalty=law.presence_penalty,
        frequency_penalty=law.frequency_penalty,
        bad_words=list(law.bad_words) or None,
        structured_outputs=StructuredOutputsParams(**grammar) if grammar else None,
        thinking_token_budget=law.thinking_token_budget,
        watermarking=options.watermarking,
        skip_reading_prefix_cache=options.skip_reading_prefix_cache,
        seed=None if law.greedy else key.seed(),
        # vLLM accepts only one of the two
        logprobs=None if options.logprob_token_ids else listed,
        logprob_token_ids=list(options.logprob_token_ids) or None,
        # lists of numbers are cheaper than an object per token
        flat_logprobs=not options.lists_log_probs,
        # needed to find stop strings only: responses are decoded by the policy
        detokenize=bool(stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
