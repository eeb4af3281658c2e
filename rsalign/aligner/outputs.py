"""What users get back: vLLM's attributes, and the record of the alignment beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rsalign.align import Result
from rsalign.budget import Usage
from rsalign.errors import RsalignError
from rsalign.protocols import Strategy
from rsalign.trace import Note, Trace
from rsalign.types import Prompt, Response, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedCompletion:
    """One answer; attributes as vLLM's `CompletionOutput`, and its reward.

    Attributes:
        index: place in the list; 0 is the best.
        text: the answer.
        token_ids: its tokens, EOS included.
        cumulative_logprob: ln pi(answer | prompt), nats, under the sampling law; None if the engine
            cannot tell.
        finish_reason: ``"stop"`` (EOS, stop string or token) or ``"length"``.
        stop_reason: the stop string or token id, if one ended it.
        reward: in the reward's units; None if no reward was asked.
        log_probs: what `cumulative_logprob` sums up, for each token.
        logprobs: as vLLM's `CompletionOutput` has them, if `SamplingParams` asked for them.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    finish_reason: str
    stop_reason: int | str | None
    reward: float | None
    log_probs: tuple[float, ...] | None = field(default=None, repr=False)
    logprobs: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How an answer came about.

    Attributes:
        strategy: with all its hyperparameters.
        reward: of the first output.
        usage: what it cost, all answers together.
        trace: everything considered; with several answers, their traces are its children at
            ``("sample", i)``.
        diagnostics: what the strategy noted about its own run.
        seed: root of all randomness.
        forced: whether any guarantee was given up (`Verdict.FORCED`).
        expired: whether a budget ended it.
        warnings: what the user should know (`Trace.warn`): that the policy is greedy and one answer
            was drawn instead of many, say, or that a target is out of reach. Of all answers
            together, without repeats.
    """

    strategy: Strategy
    reward: float | None
    usage: Usage
    trace: Trace = field(repr=False)
    diagnostics: dict[str, Note]
    seed: int
    forced: bool
    expired: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedOutput:
    """The answers to one prompt; attributes as vLLM's `RequestOutput`.

    Attributes:
        request_id: position of the prompt.
        prompt: its text.
        prompt_token_ids: its tokens.
        outputs: answers, best first.
        finished: true unless this prompt failed.
        alignment: how they came about; empty if this prompt failed.
        error: why this prompt failed (``on_error="return"``); None if it did not.
    """

    request_id: str
    prompt: str
    prompt_token_ids: list[int]
    outputs: list[AlignedCompletion]
    finished: bool
    alignment: Alignment
    error: RsalignError | None = None


def failure(
    request_id: str, prompt: str, strategy: Strategy, seed: int, error: RsalignError
) -> AlignedOutput:
    """What stands for a prompt that failed."""
    return AlignedOutput(
        request_id=request_id,
        prompt=prompt,
        prompt_token_ids=[],
        outputs=[],
        finished=False,
        alignment=Alignment(
            strategy=strategy,
            reward=None,
            usage=Usage(),
            trace=Trace(),
            diagnostics={},
            seed=seed,
            forced=False,
            expired=False,
        ),
        error=error,
    )


def output(
    request_id: str, prompt: Prompt, strategy: Strategy, results: Sequence[Result]
) -> AlignedOutput:
    """Joins the independent answers to one prompt, best first."""
    ranked = best_first(results)
    if len(results) == 1:
        trace = results[0].trace
    else:
        trace = Trace(children={("sample", i): r.trace for i, r in enumerate(results)})
    usage = sum((result.usage for result in results[1:]), results[0].usage)
    return AlignedOutput(
        request_id=request_id,
        prompt=prompt.text,
        prompt_token_ids=list(prompt.tokens),
        outputs=[_completion(i, result) for i, result in enumerate(ranked)],
        finished=True,
        alignment=Alignment(
            strategy=strategy,
            reward=ranked[0].reward,
            usage=usage,
            trace=trace,
            diagnostics=dict(ranked[0].trace.notes),
            seed=results[0].seed,
            forced=trace.forced,
            expired=any(result.expired for result in results),
            warnings=trace.all_warnings(),
        ),
    )


def best_first(results: Sequence[Result]) -> list[Result]:
    """Judged answers by reward; then those that were not judged, whole ones before pieces."""

    def place(result: Result) -> tuple[bool, bool, float]:
        whole = result.candidate.response.complete
        return result.reward is None, not whole, -(result.reward or 0.0)

    return sorted(results, key=place)


def _completion(index: int, result: Result) -> AlignedCompletion:
    response: Response = result.candidate.response
    return AlignedCompletion(
        index=index,
        text=response.text,
        token_ids=list(response.tokens),
        cumulative_logprob=None if response.log_probs is None else sum(response.log_probs),
        finish_reason="stop" if response.stop in (Stop.EOS, Stop.STOP) else "length",
        stop_reason=response.stop_reason,
        reward=result.reward,
        log_probs=response.log_probs,
    )
