"""Converts aligned answers to vLLM's `RequestOutput`, for code that was written for vLLM."""

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rsalign.aligner.outputs import AlignedCompletion, AlignedOutput
from rsalign.core.errors import RsalignError
from rsalign.engines.vllm.text import decode_each, new_detokenizer
from rsalign.hooks.shared.arguments import is_guidance

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput, SamplingParams

# how an answer is presented, by `to_request_output`; the answer does not depend on it
_SHOWN = {
    "flat_logprobs": False,
    "detokenize": True,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
}


def without_presentation(params: "SamplingParams") -> "SamplingParams":
    """A copy without the fields that only `to_request_output` honours, as `Aligner` takes it.

    Log-probabilities stay: the engine has to be asked for them.
    """
    plain = copy.copy(params)  # a shallow copy: values of fields are shared, and not changed
    # the words that name a strategy have been read already (`rsalign.words.read`)
    plain.extra_args = {
        k: v for k, v in (params.extra_args or {}).items() if is_guidance(k)
    } or None
    for name, default in _SHOWN.items():
        setattr(plain, name, default)
    return plain


def present(answered: AlignedOutput, params: "SamplingParams", tokenizer: Any) -> AlignedOutput:
    """The same answers, presented as vLLM presents its own under these `SamplingParams`.

    Args:
        answered: the answers, all finished.
        params: how they are presented.
        tokenizer: the policy's.
    """
    outputs = []
    for answer in answered.outputs:
        completion = _completion(answer, answered.prompt_token_ids, params, tokenizer)
        outputs.append(
            replace(
                answer,
                # a thought is left out of the text as a whole, however its tokens are shown
                text=completion.text if answer.reasoning is None else answer.text,
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
    """The `RequestOutput` that vLLM would have returned for these answers.

    Text comes from vLLM's own detokenizer. As everywhere in rsalign, log-probabilities are those of
    the distribution that tokens were drawn from: 0 if it is greedy. ``num_cached_tokens`` counts
    all engine requests that the answers took. The output has attributes that vLLM's has not:
    ``alignment`` and ``error`` (None), and each completion ``alignment``, ``reward``,
    ``components``, ``reasoning`` and ``answer`` (the text without the thought), as in
    `AlignedOutput` and `AlignedCompletion`. As in vLLM, ``text`` is the whole text, which vLLM's
    servers divide themselves.

    Args:
        answered: the answers, all finished.
        params: as the caller gave them, presentation included.
        tokenizer: the policy's.
        request_id: the caller's.
        prompt: its text as vLLM would report it; None if the caller gave tokens only.
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
    """The `RequestOutput` of a prompt that failed: empty answers with finish reason ``"error"``.

    Args:
        error: why; becomes the output's attribute ``error``.
        params: as the caller gave them.
        request_id: the caller's.
        prompt: its text, if the caller gave text.
    """
    from vllm.outputs import CompletionOutput, RequestOutput

    completions = [
        CompletionOutput(i, "", [], None, None, finish_reason="error") for i in range(params.n)
    ]
    for completion in completions:
        completion.reward = completion.reasoning = None
        completion.answer, completion.components = "", {}
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
        cumulative_logprob=None if known is None else math.fsum(known[: len(tokens)]),
        logprobs=_log_probs(answer, tokens, params, tokenizer),
        finish_reason=answer.finish_reason if stop is None else "stop",
        stop_reason=answer.stop_reason if stop is None else stop,
    )
    completion.reward = answer.reward
    completion.components = answer.components
    completion.alignment = answer.alignment
    completion.reasoning = answer.reasoning
    completion.answer = text if answer.reasoning is None else answer.text
    return completion


def _detokenized(
    answer: AlignedCompletion, prompt: list[int], params: "SamplingParams", tokenizer: Any
) -> tuple[str, list[int], str | None]:
    """Text, tokens, and the stop string that ended both, if one did.

    A strategy that draws in segments does not see a stop string that lies across two of them; here
    the answer ends at it.
    """
    detokenizer = new_detokenizer(tokenizer, params, prompt)
    by_token = answer.finish_reason == "stop" and not isinstance(answer.stop_reason, str)
    stop = detokenizer.update(answer.token_ids, by_token)
    text = detokenizer.get_next_output_text(finished=True, delta=False)
    return text, list(detokenizer.output_token_ids), stop


def _log_probs(
    answer: AlignedCompletion, tokens: list[int], params: "SamplingParams", tokenizer: Any
) -> Any:
    """Log-probabilities of the drawn tokens and of those listed beside them, as vLLM has them.

    Ranks are known only where other tokens are listed. None if none were asked for, or if a budget
    ended the answer.
    """
    from vllm.logprobs import FlatLogprobs, Logprob

    if answer.log_probs is None or (params.logprobs is None and not params.logprob_token_ids):
        return None
    record = FlatLogprobs() if params.flat_logprobs else []
    for token, log_prob in zip(tokens, answer.log_probs, strict=False):
        listed = getattr(log_prob, "others", None) or {token: Logprob(float(log_prob))}
        names = decode_each([*listed], tokenizer) if params.detokenize else [None] * len(listed)
        record.append(
            {
                other: Logprob(each.logprob, rank=each.rank, decoded_token=name)
                for (other, each), name in zip(listed.items(), names, strict=True)
            }
        )
    return record
