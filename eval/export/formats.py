"""Rows of training data, as TRL's trainers read them.

A prompt is a conversation (a list of messages) where the task has one, else plain text; so are the
answers. Columns that trainers do not know are beside them: token ids, behaviour log-probabilities,
rewards, and where a row comes from. ``_token_ids`` are never called ``_ids``, which is what TRL
calls its own.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from eval.export.samples import ExportedSample, answer, samples
from eval.records import Record

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which rows are wanted.

    Attributes:
        min_gap: the chosen one's reward is higher by more than this.
        every_pair: all pairs of a group, not only the best and the worst.
        min_score: least score of an accepted answer; None: also what nobody could grade.
    """

    min_gap: float = 0.0
    every_pair: bool = False
    min_score: float | None = None


def groups(record: Record, choice: Choice) -> Iterator[Row]:
    """One row for a record: its prompt, and everything that was considered.

    Partial responses (``complete`` is false) end with a segment: those with equal first
    ``prefix_length`` tokens were drawn on one accepted prefix.
    """
    found = [asdict(one) | {"accepted": one.accepted} for one in samples(record)]
    if found:
        yield _prompt(record) | {"samples": found} | _origin(record)


def pairs(record: Record, choice: Choice) -> Iterator[Row]:
    """Preferences among whole answers: the best against the worst, by reward."""
    whole = _distinct(one for one in samples(record) if one.complete)
    ranked = sorted(whole, key=lambda one: -one.reward)
    found = itertools.combinations(ranked, 2) if choice.every_pair else [(ranked[0], ranked[-1])]
    for chosen, rejected in found if len(ranked) > 1 else ():
        if chosen.reward - rejected.reward > choice.min_gap:
            yield _preference(record, chosen, rejected)


def segment_pairs(record: Record, choice: Choice) -> Iterator[Row]:
    """Preferences on one prefix: a segment that was accepted there against those that were not.

    Both texts begin with the prefix, which cancels in a ratio of likelihoods, and end where their
    segment does, so that they are open unless ``_complete``.
    """
    drawn: dict[tuple[int, ...], list[ExportedSample]] = {}
    for one in samples(record):
        drawn.setdefault(one.prefix, []).append(one)
    for siblings in drawn.values():
        rejected = _distinct(one for one in siblings if not one.accepted)
        rejected.sort(key=lambda one: one.reward)
        for taken in _distinct(one for one in siblings if one.accepted):
            for other in rejected if choice.every_pair else rejected[:1]:
                if taken.text != other.text and taken.reward - other.reward > choice.min_gap:
                    yield _preference(record, taken, other)


def accepted(record: Record, choice: Choice) -> Iterator[Row]:
    """The answer, for supervised training; not if it was forced, abstained, or cut by a budget."""
    best, graded = answer(record), record["grade"] or {}
    score = graded.get("score")
    if record["forced"] or record["expired"] or best["finish_reason"] == "abstained":
        return
    if choice.min_score is not None and (score is None or score < choice.min_score):
        return
    yield (
        _prompt(record)
        | {
            "completion": _said(record, best["text"]),
            "reward": best["reward"],
            **({"components": best["components"]} if "components" in best else {}),
            "score": score,
            "completion_token_ids": best["token_ids"],
            "completion_log_probs": best["log_probs"],
        }
        | _origin(record)
    )


FORMATS: Mapping[str, Callable[[Record, Choice], Iterator[Row]]] = {
    "groups": groups,
    "pairs": pairs,
    "segment_pairs": segment_pairs,
    "sft": accepted,
}


def _preference(record: Record, chosen: ExportedSample, rejected: ExportedSample) -> Row:
    row = _prompt(record) | {
        "chosen": _said(record, chosen.text),
        "rejected": _said(record, rejected.text),
        "score_chosen": chosen.reward,
        "score_rejected": rejected.reward,
    }
    shared = chosen.prefix if chosen.prefix == rejected.prefix else ()
    row["prefix_token_ids"] = list(shared)
    for name, one in (("chosen", chosen), ("rejected", rejected)):
        row |= {
            f"{name}_token_ids": one.token_ids,
            f"{name}_log_probs": one.log_probs,
            f"{name}_log_prob": one.log_probs and math.fsum(one.log_probs),
            f"{name}_accepted": one.accepted,
            f"{name}_complete": one.complete,
            f"{name}_grade": one.score,
        }
    return row | _origin(record)


def _prompt(record: Record) -> Row:
    prompt = record["prompt"] if record["messages"] is None else record["messages"]
    return {"prompt": prompt, "prompt_token_ids": record["prompt_token_ids"]}


def _said(record: Record, text: str) -> Any:
    """An answer in the layout of its prompt."""
    return text if record["messages"] is None else [{"role": "assistant", "content": text}]


def _origin(record: Record) -> Row:
    return {name: record[name] for name in ("task", "item", "group", "seed", "config")}


def _distinct(found: Iterable[ExportedSample]) -> list[ExportedSample]:
    return list({one.text: one for one in found}.values())
