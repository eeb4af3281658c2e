"""What a record holds for a trainer: its prompt, and everything that was considered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.records import Record
from rsalign import ConfigError
from rsalign.core.trace import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedSample:
    """A response that was considered, whole or up to the end of a segment.

    Attributes:
        text: of all its tokens.
        token_ids: the same, prompt excluded.
        log_probs: ln pi(token | before) under the law that each was drawn from, nats,
            ``(tokens,)``; None where the engine could not tell.
        prefix_length: how many of its tokens were accepted before it was drawn.
        reward: of all of it.
        complete: whether it had ended, so that it is a candidate for the answer.
        verdict: what became of it.
        log_accept: ln of the probability of accepting it, nats; None if it was 0.
        score: the grader's, 0 to 1; None where there is none.
    """

    text: str
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...] | None
    prefix_length: int
    reward: float
    complete: bool
    verdict: Verdict
    log_accept: float | None
    score: float | None

    @property
    def accepted(self) -> bool:
        """Whether it was taken, by the strategy's rule and not for want of tries."""
        return self.verdict is Verdict.ACCEPTED

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens that it shares with whatever else was drawn there."""
        return self.token_ids[: self.prefix_length]


def samples(record: Record) -> list[ExportedSample]:
    """All proposals of a record, in order, without those that a constraint excludes.

    Raises:
        ConfigError: if it was written without token ids.
    """
    _check(record)
    graded = iter(record["candidates"])
    return [
        ExportedSample(
            text=one["text"],
            token_ids=tuple(one["token_ids"]),
            log_probs=None if one["log_probs"] is None else tuple(one["log_probs"]),
            prefix_length=one["kept"],
            reward=one["reward"],
            complete=one["complete"],
            verdict=Verdict(one["verdict"]),
            log_accept=one["log_accept"],
            score=next(graded)["score"] if one["complete"] else None,
        )
        for one in record["proposals"]
        if not one.get("excluded")  # its reward has no meaning, and it is no candidate
    ]


def answer(record: Record) -> Mapping[str, Any]:
    """The record's first answer.

    Raises:
        ConfigError: if it was written without token ids.
    """
    _check(record)
    found: Mapping[str, Any] = record["answers"][0]
    return found


def _check(record: Record) -> None:
    if "prompt_token_ids" not in record:
        raise ConfigError(
            "these records have no token ids: run the sweep with tokens=true and another "
            "experiment_name, since what has a record is not run again"
        )
