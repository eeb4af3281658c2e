"""`python -m eval.bench qalign`: the table of comparisons, and what it counts."""

import re

import pytest

from eval.bench.bare_engine import forwards_per_drawn
from eval.bench.busy_time import BusyTime
from eval.bench.chain_runs import Compared, RunSize, comparisons

SIZE = RunSize(num_prompts=64, chains=1, candidates=1, steps=4, num_asked=192)


def compared(scale, bound):
    return Compared(
        lock_step=1.1 * scale,
        lock_step_bound=bound,
        unjudged=0.9 * scale,
        drawing=0.6 * scale,
        both=1.0 * scale,
    )


@pytest.mark.parametrize(("bounds", "shown"), [((1.5, 1.9, 1.7), "1.70"), ((None,) * 3, "-")])
def test_medians_stand_in_their_columns(bounds, shown):
    rounds = [[compared(scale, bound)] for scale, bound in zip((3, 1, 2), bounds, strict=True)]
    *_, line = comparisons([SIZE], rounds)
    medians = re.sub(r"\([^)]*\)", "", line).split()  # without the single ones
    assert medians == ["64", "1", "2.20", shown, "1.20", "2.00", "1.80"]


@pytest.mark.parametrize(
    ("length", "block", "computed"),
    [(1, 32, 1), (32, 32, 32), (33, 32, 1), (40, 32, 8), (40, 16, 8), (40, 1, 1), (48, 16, 16)],
)
def test_a_prefix_is_read_again_from_its_last_block(length, block, computed):
    prefix = (7,) * length
    assert forwards_per_drawn([(prefix, 1)], block=block) == computed
    # the last token drawn is never computed
    assert forwards_per_drawn([(prefix, 5)], block=block) == (computed + 4) / 5


def test_busy_time_counts_steps_and_begins_anew():
    class Engine:
        steps = 0

        def step(self):
            self.steps += 1

    engine = Engine()
    busy = BusyTime(engine)
    engine.step()
    assert engine.steps == 1
    assert busy.take() > 0
    assert busy.take() == 0
