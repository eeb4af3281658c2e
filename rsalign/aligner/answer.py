"""Answers many requests at once: each by itself, none waiting for another."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from rsalign.aligner.outputs import AlignedOutput, make_failed_output, make_output
from rsalign.aligner.request_outputs import present
from rsalign.aligner.requests import OnError, Request, require_tokenizer
from rsalign.core.answer import AnswerListener, answer, answer_errors, prompt_key
from rsalign.core.capabilities import answers_together
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.journal import Journal
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.tasks import concurrently
from rsalign.strategies.allocated import Seated, seat

OnResult: TypeAlias = Callable[[AlignedOutput], object]
"""Is called with each result as soon as it is there."""

_MAX_OPEN_PROMPTS = 512
"""More would only wait in the engine's queue, and hold memory there."""


async def answer_all(
    requests: Sequence[Request | AlignedOutput],
    policy: Policy,
    reward: Reward | None,
    journal: Journal | None,
    on_error: OnError,
    parts: Mapping[str, Any],
    *,
    on_result: OnResult | None = None,
    listener: AnswerListener | None = None,
) -> list[AlignedOutput]:
    """Answers requests; one that was refused has its failed output already.

    Args:
        requests: one per prompt; each draws from a policy of its own.
        policy: that these were made of, for the journal.
        reward: judges.
        journal: where draws and rewards are on record.
        on_error: whether a prompt that fails ends the others, or has a failed output.
        on_result: called with each result, in order of completion.
        parts: further models and judges, by name.
        listener: is told what happens while answers are drawn; for a single request.

    Returns:
        One output per request, in order.

    Raises:
        ConfigError: if the journal cannot record a request.
        RsalignError: the first failure, if `on_error` is ``"raise"``; its `finished` holds the
            outputs that were complete by then.
    """
    _refuse_unrecorded(requests, journal)
    requests, limit = _seat(requests)
    finished: list[AlignedOutput] = []

    async def answer_one(request: Request | AlignedOutput) -> AlignedOutput:
        output = request
        if isinstance(request, Request):
            try:
                output = await _answer_request(request, reward, journal, on_error, listener, parts)
            finally:
                if isinstance(request.strategy, Seated):
                    request.strategy.leave()
        assert isinstance(output, AlignedOutput)
        finished.append(output)
        if on_result is not None:
            on_result(output)
        return output

    try:
        async with (
            contextlib.nullcontext()
            if journal is None
            else journal.hold_fingerprints(policy, reward)
        ):
            return await concurrently(map(answer_one, requests), limit=limit)
    except RsalignError as error:
        error.finished = tuple(finished)
        raise


async def _answer_request(
    request: Request,
    reward: Reward | None,
    journal: Journal | None,
    on_error: OnError,
    listener: AnswerListener | None,
    parts: Mapping[str, Any],
) -> AlignedOutput:
    assert request.seed is not None
    key = prompt_key(request.seed, request.name)
    name = str(request.name)
    try:
        with answer_errors(request.prompt):
            results = await answer(
                request.prompt,
                request.strategy,
                policy=request.policy,
                reward=reward,
                key=key,
                n=request.n,
                budget=request.budget,
                journal=journal,
                on_reward_error=request.on_reward_error,
                listener=listener,
                parts=parts,
            )
            output = make_output(name, request.prompt, _asked(request.strategy), results)
            if request.presentation is None:
                return output
            return present(output, request.presentation, require_tokenizer(request.policy))
    except RsalignError as error:
        if on_error == "raise":
            raise
        asked = _asked(request.strategy)
        return make_failed_output(name, request.prompt.text, asked, key.root, error)


def _seat(
    requests: Sequence[Request | AlignedOutput],
) -> tuple[list[Request | AlignedOutput], int]:
    """Requests whose draws are allocated share a board; and how many may be open at once.

    Raises:
        ConfigError: if they cannot (`rsalign.strategies.allocated.seat`).
    """
    read = [each for each in requests if isinstance(each, Request)]
    shared = [answers_together(each.strategy) for each in read]
    if not any(shared):
        return list(requests), min(len(requests), _MAX_OPEN_PROMPTS)
    if several := [each for each, one in zip(read, shared, strict=True) if one and each.n > 1]:
        raise ConfigError(
            f"n={several[0].n}: an allocation shares draws among prompts, each of which has one "
            "answer: leave n out, or leave the allocation out"
        )
    seats = iter(seat([each.strategy for each in read]))
    seated = [
        replace(each, strategy=next(seats)) if isinstance(each, Request) else each
        for each in requests
    ]
    return seated, len(seated)  # a prompt that waits for its grant must not keep others out


def _asked(strategy: Strategy) -> Strategy:
    return strategy.inner if isinstance(strategy, Seated) else strategy


def _refuse_unrecorded(
    requests: Sequence[Request | AlignedOutput], journal: Journal | None
) -> None:
    if journal is None:
        return
    if any(isinstance(each, Request) and each.lists_log_probs for each in requests):
        raise ConfigError(
            "logprobs and logprob_token_ids list more than the drawn tokens, which a "
            "journal does not record: leave them out (logprobs=0 is known), or journal"
        )
