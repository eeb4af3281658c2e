"""Results: the attributes of vLLM's `RequestOutput`, and beside them how answers were found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rsalign.core.align import Result
from rsalign.core.answer import rank_results
from rsalign.core.budget import Usage
from rsalign.core.errors import RsalignError
from rsalign.core.protocols import Strategy
from rsalign.core.trace import Note, Trace
from rsalign.core.types import Prompt, Response, Stop

_FINISH_REASONS: Mapping[Stop | None, str] = {
    Stop.EOS: "stop",
    Stop.STOP: "stop",
    Stop.ABSTAINED: "abstained",
}
"""Words for why a response ended; any other reason is its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedCompletion:
    """One answer: the attributes of vLLM's `CompletionOutput`, and its reward.

    Attributes:
        index: place in the list; 0 is the best.
        text: the answer; of a reasoning model, without its thought.
        reasoning: the thought before the answer; None if there is none, or if the policy does not
            divide its text (`Aligner`, ``reasoning_parser``).
        token_ids: its tokens, EOS included.
        cumulative_logprob: ln pi(answer | prompt), nats, under the sampling law; None if the engine
            cannot tell.
        finish_reason: ``"stop"`` (EOS, stop string or token), ``"length"``, or ``"abstained"``
            if the strategy gives no answer.
        stop_reason: the stop string or token id, if one ended it; why there is no answer.
        reward: in the reward's units; None if no reward was asked.
        components: the named numbers that the reward was computed from (`Scored.parts`), such as
            one for each label of a reward model; empty if it names none.
        log_probs: ln pi of each token, nats; their sum is `cumulative_logprob`.
        logprobs: as vLLM's `CompletionOutput` has them, if `SamplingParams` asked for them.
        sample: the number i of this answer among the independent answers, from 0. If there are
            several, its draws are below the address ``("sample", i)``.
        alignment: how this answer was found, and what it cost by itself.

    Example:
        >>> from rsalign import Aligner, BestOf
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> with Aligner(ToyPolicy(4), ToyReward(), BestOf(n=2)) as aligner:
        ...     (output,) = aligner.generate("1", use_tqdm=False)
        >>> answer = output.outputs[0]
        >>> answer.index, answer.reward == output.alignment.reward
        (0, True)
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
    sample: int = 0
    reasoning: str | None = field(default=None, repr=False)
    components: Mapping[str, float] = field(default_factory=dict)
    alignment: "Alignment" = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """The record of how an answer was found, or all answers to one prompt together.

    Attributes:
        strategy: with all its hyperparameters.
        reward: of the answer; of several answers, the best one's.
        usage: what was spent, over all answers.
        trace: everything that was considered. If there are several answers, their traces are its
            children at ``("sample", i)``, where i is `AlignedCompletion.sample` (and not the rank).
        diagnostics: the strategy's own notes about its run; of several answers, the best one's.
        seed: root of all randomness.
        forced: whether any proposal was taken without being accepted (`Verdict.FORCED`).
        expired: whether a budget, or a reward that failed, ended a run early.
        warnings: what the user should know (`Trace.warn`), of all answers without repeats: for
            example that the policy is greedy, so that one answer was drawn instead of many.

    Example:
        >>> from rsalign import Aligner, BestOf
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> with Aligner(ToyPolicy(4), ToyReward(), BestOf(n=2)) as aligner:
        ...     (output,) = aligner.generate("1", use_tqdm=False)
        >>> len(output.alignment.trace.proposals), output.alignment.forced
        (2, False)
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
    """The answers to one prompt: the attributes of vLLM's `RequestOutput`, and more.

    Attributes:
        request_id: the prompt's ``"id"``, or its position.
        prompt: its text.
        prompt_token_ids: its tokens.
        outputs: answers, best first.
        finished: whether this prompt was answered; false if it failed.
        alignment: how they were found; empty if this prompt failed.
        error: why this prompt failed (``on_error="return"``); None if it did not.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> with Aligner(ToyPolicy(), ToyReward(), {"name": "plain", "max_tokens": 4}) as aligner:
        ...     (output,) = aligner.generate("1 2", use_tqdm=False)
        >>> output.request_id, output.finished, len(output.outputs)
        ('0', True, 1)
        >>> output.outputs[0].reward == output.alignment.reward
        True
    """

    request_id: str
    prompt: str
    prompt_token_ids: list[int]
    outputs: list[AlignedCompletion]
    finished: bool
    alignment: Alignment
    error: RsalignError | None = None


def make_failed_output(
    request_id: str, prompt: str, strategy: Strategy, seed: int, error: RsalignError
) -> AlignedOutput:
    """The output of a prompt that failed: no answers, and the error."""
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


def make_output(
    request_id: str, prompt: Prompt, strategy: Strategy, results: Sequence[Result]
) -> AlignedOutput:
    """The output of a prompt, with its answers best first.

    Args:
        request_id: of the output.
        prompt: that was answered.
        strategy: how.
        results: of the independent answers, in the order of their addresses, at least one.
    """
    completions = [
        _make_completion(rank, sample, results[sample], _make_alignment(strategy, results[sample]))
        for rank, sample in enumerate(rank_results(results))
    ]
    return AlignedOutput(
        request_id=request_id,
        prompt=prompt.text,
        prompt_token_ids=list(prompt.tokens),
        outputs=completions,
        finished=True,
        alignment=completions[0].alignment if len(results) == 1 else _join_alignments(completions),
    )


def _make_alignment(strategy: Strategy, result: Result) -> Alignment:
    """The record of one answer."""
    return Alignment(
        strategy=strategy,
        reward=result.reward,
        usage=result.usage,
        trace=result.trace,
        diagnostics=dict(result.trace.notes),
        seed=result.seed,
        forced=result.trace.forced,
        expired=result.expired,
        warnings=result.trace.all_warnings(),
    )


def _join_alignments(ranked: Sequence[AlignedCompletion]) -> Alignment:
    """The record of several answers together, from that of each."""
    in_order = sorted(ranked, key=lambda answer: answer.sample)
    each = [answer.alignment for answer in in_order]
    trace = Trace(children={("sample", i): one.trace for i, one in enumerate(each)})
    return replace(
        ranked[0].alignment,
        usage=sum((one.usage for one in each[1:]), each[0].usage),
        trace=trace,
        forced=any(one.forced for one in each),
        expired=any(one.expired for one in each),
        warnings=trace.all_warnings(),
    )


def _make_completion(
    index: int, sample: int, result: Result, alignment: Alignment
) -> AlignedCompletion:
    response: Response = result.candidate.response
    return AlignedCompletion(
        index=index,
        text=response.text,
        token_ids=list(response.tokens),
        cumulative_logprob=None if response.log_probs is None else math.fsum(response.log_probs),
        finish_reason=_FINISH_REASONS.get(response.stop, "length"),
        stop_reason=response.stop_reason,
        reward=result.reward,
        components=result.components,
        log_probs=response.log_probs,
        sample=sample,
        reasoning=response.reasoning,
        alignment=alignment,
    )
