"""How Markov chains went: every step, where it cut, what it tried and what it took."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.trace import Trace, Verdict
from rsalign.report import figures
from rsalign.report.figures import Cut, Dot, RewardLine
from rsalign.report.moves import Moves, below, moves, state, taken
from rsalign.report.notes import Diagnostic, Vote, diagnostics, number, votes
from rsalign.report.texts import Clipped, Decode, Parts, end, parts, rest, tip

_LEAST_STEPS = 2
_FLAT = 0.2  # states that take up less of the axis are drawn once more by themselves
_SHOWN_ELSEWHERE = {
    *("num_cuts_by_position", "num_accepted_by_position", "rewards"),
    *("answers", "vote_shares", "answer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One proposal.

    Attributes:
        reward: of the whole response.
        prob: of being taken.
        verdict: what became of it.
        text: in pieces.
    """

    reward: float
    prob: float
    verdict: str
    text: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step that is listed.

    Attributes:
        number: from 1.
        anchor: where it is on the page.
        kept: tokens before the cut.
        length: of the state, tokens.
        reward: of the state.
        exchanged: whether the state came from another replica just before.
        counts: false in the burn-in, and behind the end.
        moved: whether a proposal was taken.
        tries: its proposals.
        replaced: what of the state came after the cut.
        replaced_end: why the state ended.
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
        name: for people.
        colour: class of its line.
        num_steps: of all.
        acceptance: share of the steps with proposals at which one was taken.
        cuts: the drawing.
        steps: those that are listed.
        gap_before: number of the listed step before which others are left out; None: none are.
        num_hidden: how many of these there are.
        replicas: of it, at other temperatures.
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
        rewards: the drawing.
        enlarged: the drawing of the states alone; None where it would show nothing new.
        acceptance: the drawing; None if the run did not get that far.
        chains: each by itself.
        votes: on the answer.
        diagnostics: what was noted.
        burn_in: first states of each chain that do not count.
    """

    rewards: Markup
    enlarged: Markup | None
    acceptance: Markup | None
    chains: list[ChainView]
    votes: list[Vote]
    diagnostics: list[Diagnostic]
    burn_in: int

    template: ClassVar[str] = "chain.html"


def chains(
    trace: Trace, strategy: MarkovChain, decode: Decode, *, most: int, anchor: str
) -> ChainsView | None:
    """The chains of one prompt; None if nothing was ever proposed.

    Args:
        trace: of the strategy.
        strategy: with its settings.
        decode: text of given tokens.
        most: proposals to be listed, of all chains together.
        anchor: where this is on the page.
    """
    notes, burn_in = trace.notes, strategy.burn_in
    noted = notes.get("num_steps")
    num_counted = int(noted) if isinstance(noted, int | float) else 0
    found = [
        (i, child, made)
        for i, child in below(trace, "chain")
        if (made := moves(child, num_counted)) is not None
    ]
    if not found:
        return None
    num_steps = max(made.num_steps for _, _, made in found)
    last = num_counted or num_steps
    num_runs = strategy.chains * (1 + len(strategy.tempering)) * strategy.candidates
    listing = _Listing(
        decode=decode,
        factors=strategy.tempering,
        most=max(_LEAST_STEPS, most // num_runs),
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
        votes=votes(notes),
        diagnostics=diagnostics(notes, _SHOWN_ELSEWHERE),
        burn_in=burn_in,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What is listed of each chain.

    Attributes:
        decode: text of given tokens.
        factors: of beta, by replica, from the second.
        most: steps.
        num_steps: of the longest chain.
        counted: steps whose state counts.
    """

    decode: Decode
    factors: tuple[float, ...]
    most: int
    num_steps: int
    counted: range

    def chain(self, made: Moves, trace: Trace, name: str, colour: str, anchor: str) -> ChainView:
        numbers = made.ends(self.most)
        num_hidden = len(made.steps) - len(numbers)
        replicas = [
            (j, child, own)
            for j, child in below(trace, "replica")
            if (own := moves(child)) is not None
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
                    f"{name}, replica at {number(self.factors[j - 1])} times beta",
                    colour,
                    f"{anchor}-replica-{j}",
                )
                for j, child, own in replicas
            ],
        )

    def step(self, made: Moves, step: int, anchor: str) -> StepView:
        tries = made.steps[step]
        before, kept = state(tries), tries[0].kept
        return StepView(
            number=step,
            anchor=anchor,
            kept=kept,
            length=len(before.tokens),
            reward=before.reward,
            exchanged=step in made.exchanged,
            counts=step in self.counted,
            moved=taken(tries) is not None,
            tries=[
                Try(
                    reward=one.candidate.reward,
                    prob=math.exp(one.log_accept),
                    verdict=one.verdict,
                    text=parts(one, self.decode),
                )
                for one in tries
            ],
            replaced=rest(before.response, kept, self.decode),
            replaced_end=end(before.response),
        )

    def dots(self, made: Moves, anchor: str) -> Iterator[Dot]:
        for step in made.ends(self.most):
            # what was taken is painted last
            for one in sorted(made.steps[step], key=lambda one: one.verdict is Verdict.ACCEPTED):
                yield Dot(
                    x=step,
                    reward=one.candidate.reward,
                    kind=one.verdict,
                    tip=f"step {step}: {one.verdict}, {tip(one.candidate)}",
                    href=f"#{anchor}-{step}",
                )


def _enlarged(lines: list[RewardLine], counted: range) -> Markup | None:
    """The states that count, if they are too close to each other to be told apart otherwise."""
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
    shown = taken(tries) or tries[0]
    return Cut(
        step=step,
        kept=shown.kept,
        length=len(shown.candidate.tokens),
        before=len(state(tries).tokens),
        kind=shown.verdict,
    )
