"""What the rewards learn from: film reviews with a label, and pairs of replies.

All texts are rendered as the rewards will read them (`rsalign.rewards.rendering`), with the
policy's chat template.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from eval.tasks.hh_rlhf import HhRlhf
from eval.tasks.rows import BUNDLED, column, read_rows
from rsalign import Message, Prompt, Response, Stop
from rsalign.core.key import Key
from rsalign.rewards.rendering import Rendering

Part: TypeAlias = Literal["train", "tune", "heldout"]

MAX_TOKENS = 256
"""Longer conversations are left out, since they cost most of the time."""

NUM_BEGINNING = 4
"""Words of a review that are in its prompt, as in the task ``sentiment``."""

REQUESTS = (
    "Write the rest of this film review: {beginning}",
    "Continue this text: {beginning}",
    "{beginning}",
    "Write a short film review. Begin with: {beginning}",
)
_SHORTEST, _LONGEST = 12, 56
"""Words of a piece of a review that is learned from."""

_LABELS: Mapping[Any, bool] = {"pos": True, "neg": False, 1: True, 0: False}
_REPLIES = ("chosen", "rejected")
_SPACE = re.compile(r"(?:<br\s*/?>|\s)+")


@dataclass(frozen=True, slots=True)
class Text:
    """A conversation whose last turn is judged.

    Attributes:
        tokens: all ids, with those that close the last turn.
        begin: where the last turn begins.
        end: where it ends; what follows closes it.
    """

    tokens: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Review:
    """A piece of a film review.

    Attributes:
        piece: its words, without those that are in the prompt.
        text: the same as an answer to a request.
        positive: whether the whole review speaks well of the film.
    """

    piece: str
    text: Text
    positive: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies in one dialogue, of which people preferred the first."""

    chosen: Text
    rejected: Text


def read_reviews(path: str, part: Part, limit: int, rendering: Rendering) -> list[Review]:
    """Pieces of reviews, one of each review, in an order drawn at random, as many of each label.

    Args:
        path: of the data set, as `eval.tasks.rows.read_rows` takes it. Of its split ``train`` a
            twentieth is for tuning; its split ``test`` is held out.
        part: which part to read.
        limit: greatest number of pieces.
        rendering: of the model that reads them.
    """
    rows = read_rows(path, split="test" if part == "heldout" else "train", limit=None)
    keys = [Key(0).child("review", part == "heldout", index) for index in range(len(rows))]
    found: dict[bool, list[Review]] = {True: [], False: []}
    for key, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0].seed()):
        positive = _LABELS[column(row, "label")]
        tuned = key.child("part").below(20) == 0
        if part in ("heldout", "tune" if tuned else "train") and len(found[positive]) < limit // 2:
            words = _SPACE.sub(" ", str(column(row, "text", "sentence"))).split()
            found[positive].append(_review(words, positive, key, rendering))
    return [one for both in zip(found[True], found[False], strict=False) for one in both]


def _review(words: Sequence[str], positive: bool, key: Key, rendering: Rendering) -> Review:
    """Some words of a review, from where a sentence begins, as an answer to a request."""
    begins = [0, *(i + 1 for i, word in enumerate(words[:-_SHORTEST]) if word[-1] in ".!?")]
    start = begins[key.child("begin").below(len(begins))]
    length = _SHORTEST + key.child("length").below(_LONGEST - _SHORTEST)
    beginning = " ".join(words[start : start + NUM_BEGINNING])
    piece = " ".join(words[start + NUM_BEGINNING : start + NUM_BEGINNING + length])
    request = REQUESTS[key.child("request").below(len(REQUESTS))]
    message = Message("user", request.format(beginning=beginning))
    return Review(piece, _render((message,), piece, rendering), positive)


def read_pairs(path: str, part: Part, limit: int, rendering: Rendering) -> list[Pair]:
    """Replies to dialogues, in an order drawn at random.

    A hash of the dialogue's first turn says which part it is in, so that the parts share no
    dialogue even if `path` has one split only. What is in ``eval/data`` is held out always.

    Args:
        path: of the data set, as the task `HhRlhf` takes it: its split ``train``, or its only file.
        part: which part to read: a tenth is for tuning, another tenth is held out.
        limit: greatest number of pairs.
        rendering: of the model that reads them.
    """
    bundled = {item.messages[0] for item in HhRlhf(path=BUNDLED).load()}
    found = [item for item in HhRlhf(path=path, split="train").load() if item.gold["rejected"]]
    keys = [Key(0).child("dialogue", item.messages[0].content) for item in found]
    pairs = []
    for key, item in sorted(zip(keys, found, strict=True), key=lambda pair: pair[0].seed()):
        tenth = 0 if item.messages[0] in bundled else key.child("part").below(10)
        if part != {0: "heldout", 1: "tune"}.get(tenth, "train"):
            continue
        pair = Pair(*(_render(item.messages, item.gold[which], rendering) for which in _REPLIES))
        if max(len(pair.chosen.tokens), len(pair.rejected.tokens)) <= MAX_TOKENS:
            pairs.append(pair)
    return pairs[:limit]


def _render(messages: tuple[Message, ...], answer: str, rendering: Rendering) -> Text:
    prompt = Prompt(messages, (0,))  # a reward reads the messages alone
    tokens = rendering.tokens(prompt, Response((), answer, Stop.EOS))
    opened = rendering.tokens(prompt, Response((), answer, Stop.LENGTH))
    begin = len(rendering.tokens(prompt, Response((), "", Stop.LENGTH)))
    return Text(tokens, begin, len(opened))
