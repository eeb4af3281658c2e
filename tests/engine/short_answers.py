"""The exact laws of answers so short, and of so few tokens, that all of them can be listed."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from cards_law import next_law

Answer = tuple[int, ...]


@dataclass(frozen=True)
class ShortAnswers:
    """All that models say about short answers to one prompt.

    Attributes:
        max_tokens: of an answer.
        ends: the tokens that end one.
        laws: of the next token, as it is drawn, by what came before.
        entropies: of the model's own next-token law, nats, likewise.
        rewards: of every answer, whole or partial, and of none.
    """

    max_tokens: int
    ends: frozenset[int]
    laws: Mapping[Answer, Mapping[int, float]]
    entropies: Mapping[Answer, float]
    rewards: Mapping[Answer, float]

    @classmethod
    def of(
        cls,
        max_tokens: int,
        ends: Sequence[int],
        probs: Callable[[Sequence[Answer]], torch.Tensor],
        shape: Callable[[torch.Tensor], torch.Tensor],
        rewards: Callable[[Sequence[Answer]], Mapping[Answer, float]],
    ) -> "ShortAnswers":
        """Follows up every answer.

        Args:
            max_tokens: of an answer.
            ends: the tokens that end one.
            probs: the model's own next-token laws after answers of one length, (answers, vocab).
            shape: turns them into those that are drawn from, most tokens of which have none.
            rewards: of the answers that it is given.
        """
        laws: dict[Answer, Mapping[int, float]] = {}
        entropies: dict[Answer, float] = {}
        reached: list[Answer] = [()]
        open_: list[Answer] = [()]
        for length in range(1, max_tokens + 1):
            raw = probs(open_)
            entropy = torch.special.entr(raw).sum(-1).tolist()
            entropies |= dict(zip(open_, entropy, strict=True))
            for before, row in zip(open_, shape(raw), strict=True):
                laws[before] = {token: row[token].item() for token in row.nonzero()[:, 0].tolist()}
            longer = [(*before, token) for before in open_ for token in laws[before]]
            reached += longer
            open_ = [answer for answer in longer if answer[-1] not in ends and length < max_tokens]
        return cls(max_tokens, frozenset(ends), laws, entropies, rewards(reached))

    def over(self, answer: Answer) -> bool:
        """Whether an answer is whole."""
        return len(answer) == self.max_tokens or answer[-1:] in {(end,) for end in self.ends}

    def base(self) -> dict[Answer, float]:
        """pi(y) of every whole answer."""
        return self.segments((), self.max_tokens, lambda answer, drawn: False)

    def segments(
        self, kept: Answer, size: int, ends: Callable[[Answer, int], bool]
    ) -> dict[Answer, float]:
        """q(s): every longer answer at which a segment after `kept` ends, and its probability.

        Args:
            kept: what is before it.
            size: greatest number of its tokens.
            ends: whether it ends with this answer, of which it has so many tokens.
        """
        ended = {}

        def grow(answer: Answer, mass: float) -> None:
            drawn = len(answer) - len(kept)
            if drawn and (self.over(answer) or drawn == size or ends(answer, drawn)):
                ended[answer] = mass
                return
            for token, p in self.laws[answer].items():
                grow((*answer, token), mass * p)

        grow(kept, 1.0)
        return ended

    def cards(
        self,
        size: int,
        ends: Callable[[Answer, int], bool],
        *,
        bar: Callable[[int], float],
        accept: Callable[[float, float], float],
        tries: int,
        late: int = 0,
        before: float = 0.0,
        exhausted: str = "best",
    ) -> dict[Answer, float]:
        """The law of an answer of `Cards`, by the closed form for each segment; or a wrong one.

        Args:
            size: as in `segments`.
            ends: as in `segments`.
            bar: the threshold after so many tokens.
            accept: the probability to keep a segment of such a reward at such a threshold.
            tries: of a segment.
            late: moves the threshold's position.
            before: share of the kept answer's reward that is taken off.
            exhausted: what happens when tries run out; ``"never"``: there is no end of them.
        """
        value = self.rewards.__getitem__
        done: defaultdict[Answer, float] = defaultdict(float)
        open_: Mapping[Answer, float] = {(): 1.0}
        while open_:
            longer: defaultdict[Answer, float] = defaultdict(float)
            for kept, mass in open_.items():
                q = self.segments(kept, size, ends)
                off = before * value(kept) if kept else 0.0
                kept_with = {s: accept(value(s) - off, bar(len(s) + late)) for s in q}
                if exhausted == "never":
                    total = math.fsum(q[s] * kept_with[s] for s in q)
                    law = {s: q[s] * kept_with[s] / total for s in q}
                else:
                    law = next_law(q, kept_with, value, tries, exhausted)
                for s, p in law.items():
                    (done if self.over(s) else longer)[s] += mass * p
            open_ = longer
        assert math.fsum(done.values()) == pytest.approx(1, abs=1e-6)
        return done

    def chain(self, steps: int, beta: float, *, length_term: float = 1.0) -> dict[Answer, float]:
        """The law of the state of `QAlign` after so many steps from a plain draw; or a wrong one.

        A step cuts the answer y uniformly, draws the rest anew, and accepts y' with probability
        min(1, exp((r' - r) / beta) |y| / |y'|).

        Args:
            steps: number of them.
            beta: divides rewards.
            length_term: exponent of ``|y| / |y'|``.
        """
        base = self.base()
        answers = list(base)
        place = {answer: i for i, answer in enumerate(answers)}
        mass: defaultdict[Answer, float] = defaultdict(float)  # of all answers that begin so
        sharing: defaultdict[Answer, list[Answer]] = defaultdict(list)
        for answer, p in base.items():
            for cut in range(len(answer)):
                mass[answer[:cut]] += p
                sharing[answer[:cut]].append(answer)
        matrix = np.zeros((len(answers), len(answers)))
        for i, answer in enumerate(answers):
            for cut in range(len(answer)):
                for other in sharing[answer[:cut]]:
                    gain = (self.rewards[other] - self.rewards[answer]) / beta
                    gain += length_term * math.log(len(answer) / len(other))
                    proposed = base[other] / mass[answer[:cut]] / len(answer)
                    matrix[i, place[other]] += proposed * min(1.0, math.exp(min(gain, 0.0)))
            matrix[i, i] += 1 - matrix[i].sum()
        law: Any = np.array([base[answer] for answer in answers])
        for _ in range(steps):
            law = law @ matrix
        return dict(zip(answers, law.tolist(), strict=True))
