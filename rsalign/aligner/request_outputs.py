"""Aligned answers as vLLM's own `RequestOutput`, for code that was written for vLLM."""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rsalign.aligner.outputs import AlignedCompletion, AlignedOutput
from rsalign.core.errors import RsalignError
from rsalign.hooks.guided.request import is_guidance

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput, SamplingParams

# how an answer is shown, which `request_output` sees to; the answer does not depend on it
_SHOWN = {
    "flat_logprobs": False,
    "detokenize": True,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
}


def without_presentation(params: "SamplingParams") -> "SamplingParams":
    """The same request without what only `request_output` deals with, as `Aligner` takes it.

    Log-probabilities stay: the engine has to be asked for them.
    """
    plain = copy.copy(params)  # only its own fields are set; what they hold stays as it is
    # what names a strategy has been read (`rsalign.words.read`)
    plain.extra_args = {
        k: v for k, v in (params.extra_args or {}).items() if is_guidance(k)
    } or None
    for name, default in _SHOWN.items():
        setattr(plain, name, default)
    return plain


def present(answered: AlignedOutput, params: "SamplingParams", tokenizer: Any) -> AlignedOutput:
    """The same answers, presented as vLLM presents its own under these parameters.

    Args:
        answered: the answers, all finished.
        params: how they are shown.
        tokenizer: the policy's.
    """
    outputs = []
    for answer in answered.outputs:
        completion = _completion(answer, answered.prompt_token_ids, params, tokenizer)
        outputs.append(
            replace(
                answer,
                text=completion.text,
                token_ids=list(completion.token_ids),
                cumulative_logprob=completion.cumulative_logprob,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
                stop_reason=completion.stop_reason,
            )
        )
    return replace(answered, outputs=outputs)


def to_request_output(
    answered: AlignedOutput,
    params: "SamplingParams",
    tokenizer: Any,
    *,
    request_id: str,
    prompt: str | None,
) -> "RequestOutput":
    """What vLLM would have returned, had its engine drawn these answers.

    Texts are vLLM's own detokenizer's. As everywhere in rsalign, log-probabilities are those of
    the law that tokens were drawn from: 0 if that is greedy. ``num_cached_tokens`` is over all
    requests to the engine that the answers took. The output has more attributes than vLLM's:
    ``alignment`` and ``error`` (None), and each of its completions ``alignment`` and ``reward``, as
    `AlignedOutput` and `AlignedCompletion` have them.

    Args:
        answered: the answers, all finished.
        params: what was asked for, presentation included.
        tokenizer: the policy's.
        request_id: what the caller calls it.
        prompt: its text as vLLM would report it; None if the caller gave tokens alone.
    """
    from vllm.outputs import RequestOutput

    output = RequestOutput(
        request_id=request_id,
        prompt=prompt,
        prompt_token_ids=answered.prompt_token_ids,
        prompt_logprobs=None,
        outputs=[
            _completion(completion, answered.prompt_token_ids, params, tokenizer)
            for completion in answered.outputs
        ],
        finished=True,
        num_cached_tokens=answered.alignment.usage.cached_tokens,
    )
    output.alignment = answered.alignment
    output.error = None
    return output


def to_failed_request_output(
    error: RsalignError, params: "SamplingParams", *, request_id: str, prompt: str | None
) -> "RequestOutput":
    """What stands for a prompt that failed: empty answers that ended with ``"error"``.

    Args:
        error: why; the output's attribute ``error``.
        params: what was asked for.
        request_id: what the caller calls it.
        prompt: its text, if the caller gave one.
    """
    from vllm.outputs import CompletionOutput, RequestOutput

    completions = [
        CompletionOutput(i, "", [], None, None, finish_reason="error") for i in range(params.n)
    ]
    for completion in completions:
        completion.reward = None
    output = RequestOutput(
        request_id=request_id,
        prompt=prompt,
        prompt_token_ids=[],
        prompt_logprobs=None,
        outputs=completions,
        finished=True,
    )
    output.alignment = None
    output.error = error
    return output


def _completion(
    answer: AlignedCompletion, prompt: list[int], params: "SamplingParams", tokenizer: Any
) -> "CompletionOutput":
    from vllm.outputs import CompletionOutput

    text, tokens, stop = _detokenized(answer, prompt, params, tokenizer)
    known = answer.log_probs
    completion = CompletionOutput(
        index=answer.index,
        text=text,
        token_ids=tokens,
        cumulative_logprob=None if known is None else sum(known[: len(tokens)]),
        logprobs=_log_probs(answer, tokens, params, tokenizer),
        finish_reason=answer.finish_reason if stop is None else "stop",
        stop_reason=answer.stop_reason if stop is None else stop,
    )
    completion.reward = answer.reward
    completion.alignment = answer.alignment
    return completion


def _detokenized(
    answer: AlignedCompletion, prompt: list[int], params: "SamplingParams", tokenizer: Any
) -> tuple[str, list[int], str | None]:
    """Text, tokens, and the stop string that ended both.

    A strategy that draws in segments does not see a stop string that lies across two of them; here
    it is seen, and the answer ends there.
    """
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    request = EngineCoreRequest(
        request_id="",
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    detokenizer = IncrementalDetokenizer.from_new_request(
        tokenizer if params.detokenize else None, request
    )
    by_token = answer.finish_reason == "stop" and not isinstance(answer.stop_reason, str)
    stop = detokenizer.update(answer.token_ids, by_token)
    text = detokenizer.get_next_output_text(finished=True, delta=False)
    return text, list(detokenizer.output_token_ids), stop


def _log_probs(
    answer: AlignedCompletion, tokens: list[int], params: "SamplingParams", tokenizer: Any
) -> Any:
    """The drawn tokens' log-probabilities as vLLM records them, with those listed beside them.

    Without others their ranks are not known. None, too, for an answer that a budget cut short.
    """
    from vllm.logprobs import FlatLogprobs, Logprob

    if answer.log_probs is None or (params.logprobs is None and not params.logprob_token_ids):
        return None
    record = FlatLogprobs() if params.flat_logprobs else []
    for token, log_prob in zip(tokens, answer.log_probs, strict=False):
        listed = getattr(log_prob, "others", None) or {token: Logprob(float(log_prob))}
        names = _names([*listed], tokenizer) if params.detokenize else [None] * len(listed)
        record.append(
            {
                other: Logprob(each.logprob, rank=each.rank, decoded_token=name)
                for (other, each), name in zip(listed.items(), names, strict=True)
            }
        )
    return record


def _names(tokens: list[int], tokenizer: Any) -> list[str]:
    from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens

    return list(convert_ids_list_to_tokens(tokenizer, tokens))
