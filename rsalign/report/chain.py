"""The view of Markov chains: each step, where it cut, what it tried and what it accepted."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from rsalign.core.trace import Trace, Verdict
from rsalign.report import figures
from rsalign.report.figures import Cut, Dot, RewardLine
from rsalign.report.moves import (
    Moves,
    accepted_proposal,
    read_moves,
    state_before,
    traces_with_label,
)
from rsalign.report.notes import Diagnostic, Vote, diagnostic_rows, format_number, vote_rows
from rsalign.report.texts import (
    Clipped,
    Decode,
    TextParts,
    describe_end,
    text_after,
    text_parts,
    tooltip,
)

_FEWEST_STEPS = 2
_FLAT = 0.2  # if the states take up less of the axis, they get a drawing of their own
_SHOWN_ELSEWHERE = {
    *("num_cuts_by_position", "num_accepted_by_position", "rewards"),
    *("answers", "vote_shares", "answer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One proposal.

    Attributes:
        reward: of the whole response.
        prob: of being accepted.
        verdict: what became of it.
        text: its text in pieces.
    """

    reward: float
    prob: float
    verdict: str
    text: TextParts


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step that is listed.

    Attributes:
        number: from 1.
        anchor: its id on the page.
        kept: number of tokens before the cut.
        length: of the state before the step, tokens.
        reward: of the state before the step.
        exchanged: whether that state came from another replica just before.
        counts: false in the burn-in, and after the last step that counts.
        moved: whether a proposal was accepted.
        tries: its proposals.
        replaced: the text of the state after the cut.
        replaced_end: why the response of the state ended.
    """

    number: int
    anchor: str
    kept: int
    length: int
    reward: float
    exchanged: bool
    counts: bool
    moved: bool
    tries: list[Try]
    replaced: Clipped
    replaced_end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainView:
    """One chain, or one of its replicas.

    Attributes:
        name: as it is shown.
        colour: style class of its line.
        num_steps: number of all steps.
        acceptance: share of the steps with proposals at which one was accepted.
        cuts: the drawing of the cuts.
        steps: those that are listed.
        gap_before: number of the listed step before which others are left out; None if none are.
        num_hidden: number of steps that are left out.
        replicas: of this chain, at other temperatures.
    """

    name: str
    colour: str
    num_steps: int
    acceptance: float
    cuts: Markup
    steps: list[StepView]
    gap_before: int | None
    num_hidden: int
    replicas: list["ChainView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainsView:
    """All chains of a prompt.

    Attributes:
        rewards: the drawing of all rewards.
        enlarged: the drawing of the states alone; None if it would show nothing new.
        acceptance: the drawing of acceptance by cut position; None if the run ended before.
        chains: the view of each chain.
        votes: for the answers.
        diagnostics: the notes of the run.
        burn_in: number of first states of each chain that do not count.
    """

    rewards: Markup
    enlarged: Markup | None
    acceptance: Markup | None
    chains: list[ChainView]
    votes: list[Vote]
    diagnostics: list[Diagnostic]
    burn_in: int

    template: ClassVar[str] = "chain.html"


def view_chains(
    trace: Trace, strategy: Any, decode: Decode, *, most: int, anchor: str
) -> ChainsView | None:
    """The view of the chains of one prompt; None if nothing was ever proposed.

    Args:
        trace: of the run.
        strategy: with its settings ``burn_in`` and ``tempering``, if there are any.
        decode: from tokens to their text.
        most: greatest number of proposals that are listed, of all chains together.
        anchor: id of the section on the page.
    """
    notes, burn_in = trace.notes, getattr(strategy, "burn_in", 0)
    factors = tuple(getattr(strategy, "tempering", ()))
    noted = notes.get("num_steps")
    num_counted = int(noted) if isinstance(noted, int | float) else 0
    found = [
        (i, child, made)
        for i, child in traces_with_label(trace, "chain")
        if (made := read_moves(child, num_counted)) is not None
    ]
    if not found:
        return None
    num_steps = max(made.num_steps for _, _, made in found)
    last = num_counted or num_steps
    num_tries = max(len(tries) for _, _, made in found for tries in made.steps.values())
    num_runs = len(found) * (1 + len(factors)) * num_tries
    listing = _Listing(
        decode=decode,
        factors=factors,
        most=max(_FEWEST_STEPS, most // num_runs),
        num_steps=num_steps,
        counted=range(burn_in, last + 1),
    )
    lines = [
        RewardLine(made.rewards, list(listing.dots(made, f"{anchor}-{i}"))) for i, _, made in found
    ]
    tried, accepted = notes.get("num_cuts_by_position"), notes.get("num_accepted_by_position")
    return ChainsView(
        rewards=figures.reward_trace(lines, burn_in=burn_in, last=last),
        enlarged=_enlarged(lines, listing.counted),
        acceptance=(
            figures.acceptance(tried, accepted)  # type: ignore[arg-type] # of numbers, both
            if isinstance(tried, tuple) and isinstance(accepted, tuple)
            else None
        ),
        chains=[
            listing.chain(made, child, f"chain {i}", figures.colour(n), f"{anchor}-{i}")
            for n, (i, child, made) in enumerate(found)
        ],
        votes=vote_rows(notes),
        diagnostics=diagnostic_rows(notes, strategy, _SHOWN_ELSEWHERE),
        burn_in=burn_in,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What is listed of each chain, and how its views are made.

    Attributes:
        decode: from tokens to their text.
        factors: of beta, one for each replica but the first.
        most: greatest number of steps of a chain that are listed.
        num_steps: of the longest chain.
        counted: the steps whose state counts.
    """

    decode: Decode
    factors: tuple[float, ...]
    most: int
    num_steps: int
    counted: range

    def chain(self, made: Moves, trace: Trace, name: str, colour: str, anchor: str) -> ChainView:
        numbers = made.first_and_last(self.most)
        num_hidden = len(made.steps) - len(numbers)
        replicas = [
            (j, child, own)
            for j, child in traces_with_label(trace, "replica")
            if (own := read_moves(child)) is not None
        ]
        return ChainView(
            name=name,
            colour=colour,
            num_steps=made.num_steps,
            acceptance=made.acceptance,
            cuts=figures.cuts([_cut(made, n) for n in numbers], num_steps=self.num_steps),
            steps=[self.step(made, n, f"{anchor}-{n}") for n in numbers],
            gap_before=numbers[len(numbers) // 2] if num_hidden else None,
            num_hidden=num_hidden,
            replicas=[
                self.chain(
                    own,
                    child,
                    f"{name}, replica{self._at_factor(j)}",
                    colour,
                    f"{anchor}-replica-{j}",
                )
                for j, child, own in replicas
            ],
        )

    def _at_factor(self, replica: int) -> str:
        if replica > len(self.factors):  # a strategy that does not tell its factors
            return f" {replica}"
        return f" at {format_number(self.factors[replica - 1])} times beta"

    def step(self, made: Moves, step: int, anchor: str) -> StepView:
        tries = made.steps[step]
        before, kept = state_before(tries), tries[0].kept
        return StepView(
            number=step,
            anchor=anchor,
            kept=kept,
            length=len(before.tokens),
            reward=before.reward,
            exchanged=step in made.exchanged,
            counts=step in self.counted,
            moved=accepted_proposal(tries) is not None,
            tries=[
                Try(
                    reward=one.candidate.reward,
                    prob=math.exp(one.log_accept),
                    verdict=one.verdict,
                    text=text_parts(one, self.decode),
                )
                for one in tries
            ],
            replaced=text_after(before.response, kept, self.decode),
            replaced_end=describe_end(before.response),
        )

    def dots(self, made: Moves, anchor: str) -> Iterator[Dot]:
        for step in made.first_and_last(self.most):
            # accepted proposals are painted last, above the others
            for one in sorted(made.steps[step], key=lambda one: one.verdict is Verdict.ACCEPTED):
                yield Dot(
                    x=step,
                    reward=one.candidate.reward,
                    kind=one.verdict,
                    tip=f"step {step}: {one.verdict}, {tooltip(one.candidate)}",
                    href=f"#{anchor}-{step}",
                )


def _enlarged(lines: list[RewardLine], counted: range) -> Markup | None:
    """A drawing of the states that count, if they are too close to be told apart without it."""
    shown = [RewardLine(line.rewards[: counted.stop], ()) for line in lines]
    states = [reward for line in shown for reward in line.rewards[counted.start :]]
    if not states:
        return None
    rewards = [reward for line in lines for reward in line.rewards]
    rewards += [dot.reward for line in lines for dot in line.dots]
    if not 0 < max(states) - min(states) < _FLAT * (max(rewards) - min(rewards)):
        return None
    return figures.reward_trace(shown, first=counted.start, last=counted[-1])


def _cut(made: Moves, step: int) -> Cut:
    tries = made.steps[step]
    shown = accepted_proposal(tries) or tries[0]
    return Cut(
        step=step,
        kept=shown.kept,
        length=len(shown.candidate.tokens),
        before=len(state_before(tries).tokens),
        kind=shown.verdict,
    )
