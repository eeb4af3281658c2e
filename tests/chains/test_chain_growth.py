"""What is done for each step of a chain does not grow with the number of steps or chains."""

import asyncio
from dataclasses import replace

import pytest
from chain_law import PROMPT

from rsalign import Key, Run
from rsalign.chains.board import Board
from rsalign.chains.history import History
from rsalign.chains.kernel import Step
from rsalign.chains.range_view import RangeView
from rsalign.chains.stopping import DecidedLead, EffectiveSamples, is_due
from rsalign.core.trace import Trace
from rsalign.core.types import Candidate, Response, Stop
from rsalign.strategies.qalign import QAlign
from rsalign.testing import ToyPolicy, ToyReward


class Counted(list):
    """A list that counts how often it, or one of its items, was looked at."""

    looks = 0

    def __len__(self):
        Counted.looks += 1
        return super().__len__()

    def __getitem__(self, index):
        found = super().__getitem__(index)
        Counted.looks += len(found) if isinstance(index, slice) else 1
        return found

    def __iter__(self):
        for item in super().__iter__():
            Counted.looks += 1
            yield item


class Patient:
    """Never enough, and looks at the last step only."""

    needs_answers = True

    def enough(self, chains, answers):
        return chains[-1][-1].moved or answers[-1][-1] is None


def looks(num_steps, num_chains):
    """How often a board looks at steps, for each step of a chain."""
    state = Candidate(Response((1, 0), "1", Stop.EOS), 0.0)
    events = []
    histories = [History(start=state, steps=Counted()) for _ in range(num_chains)]
    board = Board(
        histories=histories,
        steps=num_steps,
        burn_in=0,
        stopping=Patient(),
        extract=lambda text: text[:1],
        trace=Trace(on_progress=events.append),
    )
    Counted.looks = 0
    for t in range(num_steps):
        for history in histories:
            own = replace(state, reward=float(t))  # never the state before
            history.steps.append(
                Step(state=own, cut=0, length=2, considered=(own,), probs=(1.0,), moved=False)
            )
            board.note_step(history)
    assert [event.step for event in events] == list(range(1, num_steps + 1))
    assert {event.share for event in events} == {1.0}
    return Counted.looks / (num_steps * num_chains)


@pytest.mark.parametrize(("num_steps", "num_chains"), [(800, 2), (100, 16)])
def test_a_board_looks_at_each_step_a_few_times(num_steps, num_chains):
    assert looks(num_steps, num_chains) < 1.2 * looks(100, 2)


@pytest.mark.parametrize("every", [1, 4, 7])
def test_looks_at_all_steps_cost_as_much_as_a_few_looks_at_the_end(every):
    for size in (100, 10_000):
        seen = [t for t in range(1, size * every + 1) if is_due(t, every)]
        assert sum(seen) < 40 * size * every
        assert all(t % every == 0 for t in seen)
    assert seen[:16] == [every * (i + 1) for i in range(16)]


@pytest.mark.parametrize("rule", [EffectiveSamples(at_least=1e9), DecidedLead(error=1e-9, every=8)])
def test_rules_of_the_library_look_when_it_is_due(rule):
    class Spied(list):
        looked = False

        def __iter__(self):
            Spied.looked = True
            return super().__iter__()

    state = Candidate(Response((1, 0), "1", Stop.EOS), 0.0)
    step = Step(state=state, cut=1, length=2, considered=(state,), probs=(1.0,), moved=False)
    for t in (7, 8, 128, 136, 144, 1024, 1032):
        Spied.looked = False
        rule.enough([Spied([step] * t)], [["1", None][t % 2 :] * t][:1])
        assert Spied.looked == is_due(t, 8), t


def test_a_view_shows_what_a_copy_would():
    items = list(range(10))
    view = RangeView(items, 3, 7)
    items.append(10)
    assert list(view) == items[3:7]
    assert [view[i] for i in (0, 3, -1, -4)] == [3, 6, 6, 3]
    assert view[1:] == [4, 5, 6]
    assert view[::-2] == [6, 4]
    for outside in (4, -5):
        with pytest.raises(IndexError):
            view[outside]


def test_the_weight_is_asked_for_as_often_for_each_step_of_a_long_chain():
    def asked(steps):
        count = 0

        class Counting(QAlign):
            def log_weight(self, prompt_rewards):
                inner = super().log_weight(prompt_rewards)

                def weigh(candidate):
                    nonlocal count
                    count += 1
                    return inner(candidate)

                return weigh

        run = Run(ToyPolicy(4, 1), ToyReward(1), Key(0))
        asyncio.run(Counting(steps=steps, max_tokens=4, chains=2).sample(PROMPT, run))
        return count / steps

    assert asked(400) < 1.2 * asked(50)
