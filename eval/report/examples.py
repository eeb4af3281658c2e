"""Answers of all methods to a few items, side by side, with what was proposed on the way."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pvariance

from eval.analysis.configuration import Configuration, by_method
from eval.analysis.items import scores
from eval.records import Record
from eval.report.studies import Study
from eval.report.table import Colours
from rsalign.report.texts import Clipped, clip

NUM_ITEMS = 6
_MOST_LETTERS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A proposal.

    Attributes:
        verdict: ``"accepted"``, ``"rejected"`` or ``"forced"``.
        reward: of the whole so far.
        kept: text that it shares with what was taken before.
        new: the rest of its text.
    """

    verdict: str
    reward: float
    kept: Clipped
    new: Clipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One method's answer to an item.

    Attributes:
        name: method and size.
        number: the method's colour.
        text: of the answer; its error if it failed.
        verdict: ``"right"``, ``"wrong"``, ``"ungradable"``, ``"failed"``, or a partial score.
        reward: None if there is none.
        num_tokens: of the answer.
        drawn_tokens: that it cost.
        forced: whether a guarantee was given up.
        drafts: what was proposed, as far as the record has texts.
        proposals: number of each verdict among all that are on record.
        candidates: how many whole responses were considered, and how many of them are right; empty
            if there was but one.
    """

    name: str
    number: int
    text: Clipped
    verdict: str
    reward: float | None
    num_tokens: int
    drawn_tokens: int
    forced: bool
    drafts: Sequence[Draft]
    proposals: Counter[str]
    candidates: str


@dataclass(frozen=True, slots=True)
class Example:
    """One item.

    Attributes:
        item: its id.
        prompt: what was asked.
        answers: one for each method, at its largest size.
    """

    item: str
    prompt: Clipped
    answers: Sequence[Shown]


def choose_examples(study: Study, colours: Colours, *, num_items: int = NUM_ITEMS) -> list[Example]:
    """The items on whose score the methods differ most, each at its largest size and first seed.

    They are no sample: what all methods get right, or wrong, comes last.
    """
    largest = [sizes[-1] for sizes in by_method(study.configurations).values()]
    by_configuration = [scores(one.records) for one in largest]
    shared = sorted(set.intersection(*map(set, by_configuration)))
    ranked = sorted(shared, key=lambda key: -pvariance([of[key] for of in by_configuration]))
    found = []
    for _, item in ranked[:num_items]:
        records = [_first(one, item) for one in largest]
        answers = [
            show_record(one.name, record, colours[one.method])
            for one, record in zip(largest, records, strict=True)
        ]
        found.append(Example(item, clip(records[0]["prompt"], _MOST_LETTERS), answers))
    return found


def _first(configuration: Configuration, item: str) -> Record:
    of_item = (record for record in configuration.records if record["item"] == item)
    return min(of_item, key=lambda record: int(record["seed"]))


def show_record(name: str, record: Record, number: int) -> Shown:
    """What a page shows of one record.

    Args:
        name: its heading.
        record: any.
        number: the colour of its method.
    """
    answer = record["answers"][0] if record["answers"] else None
    text = answer["text"] if answer else record["error"]["message"]
    return Shown(
        name=name,
        number=number,
        text=clip(text, _MOST_LETTERS),
        verdict=_verdict(record),
        reward=answer["reward"] if answer else None,
        num_tokens=answer["num_tokens"] if answer else 0,
        drawn_tokens=record["usage"]["policy_tokens_drawn"],
        forced=record["forced"],
        drafts=_drafts(record["proposals"]),
        proposals=Counter(proposal["verdict"] for proposal in record["proposals"]),
        candidates=_candidates(record["candidates"]),
    )


def _candidates(considered: Sequence[Record]) -> str:
    if len(considered) < 2:
        return ""
    scores = [one["score"] for one in considered if one["score"] is not None]
    right = f", {sum(score >= 1 for score in scores)} right" if scores else ""
    return f"{len(considered)} candidates{right}"


def _verdict(record: Record) -> str:
    if record["grade"] is None:
        return "failed"
    score = record["grade"]["score"]
    if score is None:
        return "ungradable"
    return {0: "wrong", 1: "right"}.get(score, f"{score:.2f}")


def _drafts(proposals: Sequence[Record]) -> list[Draft]:
    drafts = []
    taken = ""
    for proposal in proposals:
        text = proposal["text"]
        if text is None:
            break
        kept = text[: _num_shared(text, taken)] if proposal["kept"] else ""
        drafts.append(
            Draft(
                verdict=proposal["verdict"],
                reward=proposal["reward"],
                kept=Clipped(kept[-_MOST_LETTERS:], max(0, len(kept) - _MOST_LETTERS)),
                new=clip(text[len(kept) :], _MOST_LETTERS),
            )
        )
        if proposal["verdict"] != "rejected":
            taken = text
    return drafts


def _num_shared(one: str, other: str) -> int:
    """Letters that both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
