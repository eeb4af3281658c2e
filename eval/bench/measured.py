"""Measurements of `python -m eval.bench cards`: answers and their costs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from eval.bench.reference_cards import Spent
from rsalign.aligner import AlignedOutput
from rsalign.core.protocols import Strategy
from rsalign.core.types import Candidate
from rsalign.embedded.problems import Problem


@dataclass(slots=True)
class MeasuredRow:
    """The repeated measurements of one strategy on the same problems.

    Attributes:
        name: in the tables.
        strategy: what answers.
        problems: that it was asked.
        answers: of each repeat, in the order of the problems.
        seconds: of each repeat.
        policy_forwards: tokens for which the policy ran, over all repeats.
        reward_forwards: the same of the reward model.
        simulated_policy_forwards: those with a prefix cache of other blocks (`CountedEngine`).
        simulated_reward_forwards: the same of the reward model.
    """

    name: str
    strategy: Strategy
    problems: Sequence[Problem] = ()
    answers: list[list[AlignedOutput]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    policy_forwards: int = 0
    reward_forwards: int = 0
    simulated_policy_forwards: int = 0
    simulated_reward_forwards: int = 0

    @property
    def flat(self) -> list[AlignedOutput]:
        """The answers of all repeats."""
        return [answer for repeat in self.answers for answer in repeat]

    @property
    def answers_per_second(self) -> float:
        """Of the median repeat."""
        return len(self.problems) / median(self.seconds)

    @property
    def drawn(self) -> float:
        """Tokens drawn for an answer, the discarded ones included; the mean."""
        return fmean(answer.alignment.usage.policy_tokens_drawn for answer in self.flat)


@dataclass(frozen=True, slots=True)
class Looped:
    """One answer of the paper's loop, with its cost."""

    problem: Problem
    candidate: Candidate
    spent: Spent


def asked_alike(row: MeasuredRow, looped: Sequence[Looped]) -> list[Looped]:
    """The loop's answers to problems that the row was asked too: costs differ widely among them."""
    questions = {problem.question for problem in row.problems}
    return [one for one in looped if one.problem.question in questions]
