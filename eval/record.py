"""What one record holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from eval import host
from eval.records import SCHEMA
from eval.tasks.protocol import Grade, Item
from rsalign import AlignedOutput, Budget, RsalignError
from rsalign.core.budget import Usage
from rsalign.core.capabilities import AnswerLaw, answer_law, describe_part, independent_draws
from rsalign.core.protocols import Strategy
from rsalign.core.trace import Proposal, Trace, Verdict

MOST_CANDIDATES = 1024
"""Candidates and proposals of one record, so that a long chain stays readable."""
DEPENDS_ON_TIMING = (
    "time",
    "batch",
    "usage.seconds",
    "usage.replayed",
    "usage.cached_tokens",
    "usage.reward_cached_tokens",
)
"""Fields that two runs of one configuration do not share: what the clock said, and what else the
engine happened to have in its cache. All others are equal on an engine that keeps to a seed."""
MOST_TEXTS = 16
"""Proposals of one record that have their text, for whoever wants to see some."""


GIVEN_ANSWERS = {"class": "Choices"}
"""The ``strategy`` of a record whose answers the task gave, so that no strategy drew any."""


def make_record(
    output: AlignedOutput,
    item: Item,
    grade: Grade | None,
    candidate_grades: Sequence[Grade],
    *,
    config: str,
    task: str,
    strategy: Strategy,
    budget: Budget | None,
    tokens: bool = False,
) -> dict[str, Any]:
    """Makes the record of one item that a strategy answered.

    Fields: ``schema``, ``config`` (hash), ``task``, ``item``, ``group``, ``cluster``, ``prompt``,
    ``seed``, ``strategy``; ``answer_law`` and ``independent_draws``, what the strategy declares of
    its answers (`rsalign.core.capabilities`); ``budget``; ``answers``, best first, with
    ``log_prob``, the sum over their tokens under the law they were drawn from, nats; ``grade`` of
    the first; ``usage`` with all of its fields (where ``replayed`` is not 0, a journal had some
    draws, and the seconds are not those of a fresh run); ``diagnostics``, ``forced``, ``expired``,
    ``warnings``; ``candidates``, whole responses that were considered, with their grades, without
    those that a constraint excludes; ``proposals``, what was accepted or rejected and where, the
    first with their texts, and ``excluded`` where a constraint says so; ``components`` beside each
    reward that names some; ``error``;
    ``fingerprints`` of the item and of what draws, judges and grades, and the ``batch`` of items
    that were answered beside it, both from `eval.provenance`; ``host``, versions and facts of the
    machine; ``time``, when it was written.

    Whoever runs the same configuration again, interrupted or not, gets the same records but for
    `DEPENDS_ON_TIMING` and, elsewhere, the host.

    Args:
        output: what `Aligner` returned.
        item: what was asked.
        grade: of the first answer; None if the item failed.
        candidate_grades: of `list_candidates(output)`, in order.
        config: hash of the configuration.
        task: its name.
        strategy: that answered.
        budget: hard limits.
        tokens: whether `eval.export` is to find what it needs: ``messages`` and
            ``prompt_token_ids``; ``token_ids`` and ``log_probs`` (nats, under the law they were
            drawn from) of answers and proposals; for each proposal its text and whether it is
            ``complete``. Records are then several times as large.
    """
    how = output.alignment
    considered = list_candidates(output)
    return {
        **_frame(item, output.prompt, how.seed, config, task, output.error),
        **(_prompt(output, item) if tokens else {}),
        "strategy": describe_part(strategy),
        "answer_law": str(answer_law(strategy)),
        "independent_draws": independent_draws(strategy),
        "budget": None if budget is None else asdict(budget),
        "answers": [
            {
                "text": answer.text,
                **({} if answer.reasoning is None else {"reasoning": answer.reasoning}),
                "reward": answer.reward,
                **_components(answer.components),
                "num_tokens": len(answer.token_ids),
                "log_prob": answer.cumulative_logprob,
                "finish_reason": answer.finish_reason,
                **(_drawn(answer.token_ids, answer.log_probs) if tokens else {}),
            }
            for answer in output.outputs
        ],
        "grade": None if grade is None else _plain_grade(grade),
        "usage": how.usage.spent(),
        "diagnostics": to_json(how.diagnostics),
        "forced": how.forced,
        "expired": how.expired,
        "warnings": list(how.warnings),
        "candidates": [
            {
                "reward": float(proposal.candidate.reward),
                **_components(proposal.candidate.parts),
                "num_tokens": len(proposal.candidate.tokens),
                "log_prob": _log_prob(proposal),
                "score": graded.score,
                "answer": graded.answer,
            }
            for proposal, graded in zip(considered, candidate_grades, strict=True)
        ],
        "proposals": [
            {
                "kept": proposal.kept,
                "num_tokens": len(proposal.candidate.tokens),
                "reward": float(proposal.candidate.reward),
                **_components(proposal.candidate.parts),
                **({"excluded": True} if proposal.candidate.excluded else {}),
                "log_accept": to_json(proposal.log_accept),
                "verdict": str(proposal.verdict),
                "text": response.text if tokens or i < MOST_TEXTS else None,
                **(_drawn(response.tokens, response.log_probs) if tokens else {}),
                **({"complete": response.complete} if tokens else {}),
            }
            for i, proposal in enumerate(_proposals(how.trace))
            for response in (proposal.candidate.response,)
        ],
    }


def choice_record(
    item: Item,
    seed: int,
    *,
    config: str,
    task: str,
    answer: Mapping[str, Any] | None = None,
    grade: Grade | None = None,
    usage: Usage | None = None,
    log_probs: Sequence[float] = (),
    error: RsalignError | None = None,
) -> dict[str, Any]:
    """Makes the record of one item whose answers the task gave: no strategy drew anything.

    Args:
        item: what was asked.
        seed: of the job; it changes nothing.
        config: hash of the configuration.
        task: its name.
        answer: the most probable choice, as in ``answers`` of `record`; None if the item failed.
        grade: of the item.
        usage: of weighing the choices.
        log_probs: of each choice, nats.
        error: why there is no answer.
    """
    return {
        **_frame(item, item.text or "", seed, config, task, error),
        "answers": [] if answer is None else [dict(answer)],
        "grade": None if grade is None else _plain_grade(grade),
        "usage": (usage or Usage()).spent(),
        "diagnostics": {"log_probs": to_json(tuple(log_probs))} if log_probs else {},
    }


def _frame(
    item: Item, prompt: str, seed: int, config: str, task: str, error: RsalignError | None
) -> dict[str, Any]:
    """All fields of a record, those of the answer empty."""
    return {
        "schema": SCHEMA,
        "config": config,
        "task": task,
        "item": item.id,
        "group": item.group,
        "cluster": item.cluster,
        "prompt": prompt,
        "seed": seed,
        "strategy": GIVEN_ANSWERS,
        "answer_law": str(AnswerLaw.UNKNOWN),
        "independent_draws": 0,
        "budget": None,
        "answers": [],
        "grade": None,
        "usage": {},
        "diagnostics": {},
        "forced": False,
        "expired": False,
        "warnings": [],
        "candidates": [],
        "proposals": [],
        "error": None if error is None else {"kind": type(error).__name__, "message": str(error)},
        "fingerprints": {},
        "batch": None,
        "host": host.read_facts(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def list_candidates(output: AlignedOutput) -> list[Proposal]:
    """The proposals that were whole responses, without those that must not be the answer."""
    return [
        proposal
        for proposal in _proposals(output.alignment.trace)
        if proposal.candidate.response.complete and not proposal.candidate.excluded
    ]


def _proposals(trace: Trace) -> list[Proposal]:
    """Each once: what an inner run proposed, an outer one may have chosen from.

    The first verdict counts, unless what was rejected was then forced.
    """
    found: dict[int, Proposal] = {}
    for one in trace.walk():
        for proposal in one.proposals:
            if proposal.verdict is Verdict.FORCED:
                found[id(proposal.candidate)] = proposal
            found.setdefault(id(proposal.candidate), proposal)
    return list(found.values())[:MOST_CANDIDATES]


def _prompt(output: AlignedOutput, item: Item) -> dict[str, Any]:
    messages = [one.given for one in item.messages]
    return {
        "messages": None if item.text is not None else messages,
        "prompt_token_ids": output.prompt_token_ids,
    }


def _components(components: Mapping[str, float]) -> dict[str, Any]:
    """The named components of a reward, where it has any."""
    return {"components": dict(components)} if components else {}


def _drawn(tokens: Sequence[int], log_probs: Sequence[float] | None) -> dict[str, Any]:
    return {
        "token_ids": list(tokens),
        "log_probs": None if log_probs is None else list(log_probs),
    }


def _plain_grade(grade: Grade) -> dict[str, Any]:
    return {"score": grade.score, "answer": grade.answer, "details": to_json(grade.details)}


def _log_prob(proposal: Proposal) -> float | None:
    log_probs = proposal.candidate.response.log_probs
    return None if log_probs is None else math.fsum(log_probs)


def to_json(value: Any) -> Any:
    """Makes JSON data of whatever a strategy noted or a grader returned.

    JSON has no infinities: they become None. NumPy's numbers and arrays become plain ones; what
    has no counterpart in JSON becomes its `repr`, so that one odd note does not cost a record.

    Example:
        >>> to_json({"kl": float("inf"), "sizes": (1, 2), "seen": {3}})
        {'kl': None, 'sizes': [1, 2], 'seen': [3]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(one) for one in value]
    return repr(value)
