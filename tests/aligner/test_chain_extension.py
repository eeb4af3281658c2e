"""A longer run of chains extends a shorter one: with a journal it pays for the rest only."""

from dataclasses import fields

import pytest

from rsalign import Aligner, QAlign
from rsalign.chains.cuts import EntropyCuts, FixedCuts
from rsalign.core.journal import Journal
from rsalign.embedded.problems import problem
from rsalign.selectors import MajorityVote
from rsalign.selectors.extraction import LastNumber
from rsalign.strategies.power import Power
from rsalign.testing import ToyPolicy, ToyReward

VOTE = MajorityVote(extract=LastNumber())
STRATEGIES = {
    "plain": QAlign(max_tokens=6),
    "chains": QAlign(max_tokens=6, chains=3, restart=0.2, answer=VOTE),
    "several candidates": QAlign(max_tokens=6, candidates=3, combine="i_sir"),
    "replicas from a pool": QAlign(max_tokens=6, chains=2, tempering=(2.0, 5.0), pool=5),
    "entropy cuts": QAlign(max_tokens=6, cuts=EntropyCuts()),
    "cuts behind the end": QAlign(max_tokens=6, cuts=FixedCuts(decay=0.8), burn_in=4),
    "no reward": Power(alpha=2.0, max_tokens=6),
}


class Counting(ToyPolicy):
    """Counts draws that reach it."""

    fingerprint = "counted"

    def __init__(self):
        super().__init__(4)
        object.__setattr__(self, "drawn", [])

    async def extend(self, prefix, **given):
        self.drawn.append(given["key"])
        return await super().extend(prefix, **given)


def with_steps(strategy, steps):
    return type(strategy)(**{n: getattr(strategy, n) for n in _settings(strategy)}, steps=steps)


def _settings(strategy):
    return [each.name for each in fields(strategy) if each.name != "steps"]


def moves(output, steps):
    """What every chain and replica did in its first steps."""
    found = {}

    def collect(trace, path):
        found[path] = [
            (p.address, p.kept, p.candidate.tokens, p.candidate.reward, p.log_accept, p.verdict)
            for p in trace.proposals
            if "step" in p.address and p.address[p.address.index("step") + 1] < steps
        ]
        for name, child in trace.children.items():
            collect(child, (*path, *name))

    collect(output.alignment.trace, ())
    return found


def run(strategy, policy, journal=None, reward=None, prompts=("1 2", "3")):
    with Aligner(policy, reward or ToyReward(), strategy, seed=3, journal=journal) as aligner:
        return aligner.generate(list(prompts), use_tqdm=False)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_fifty_steps_after_twenty_five(strategy, tmp_path):
    short, long = with_steps(strategy, 25), with_steps(strategy, 50)
    with Journal(tmp_path / "journal") as journal:
        first, second = Counting(), Counting()
        before = run(short, first, journal)
        paid = journal.statistics().recorded
        after = run(long, second, journal)
        replayed = journal.statistics().replayed
    uncut = Counting()
    whole = run(long, uncut)
    assert [one.outputs for one in after] == [one.outputs for one in whole]
    for one, other, shorter in zip(after, whole, before, strict=True):
        assert one.alignment.diagnostics == other.alignment.diagnostics
        assert moves(one, 50) == moves(other, 50)
        assert moves(one, 25) == moves(shorter, 25)
        assert len(moves(one, 50)) == 1 + strategy.chains * (1 + len(strategy.tempering))
        # what is replayed counts as spent
        spent, expected = one.alignment.usage, other.alignment.usage
        assert spent.policy_tokens_drawn == expected.policy_tokens_drawn
        assert spent.reward_calls == expected.reward_calls
    assert replayed >= paid > 0
    assert not set(first.drawn) & set(second.drawn), "a draw was paid for twice"
    assert set(first.drawn) | set(second.drawn) == set(uncut.drawn)
    assert len(first.drawn) + len(second.drawn) == len(uncut.drawn)
    assert len(second.drawn) > 25 * strategy.chains / 4


def test_draws_of_a_step():
    """Each of the 25 further steps draws once for each chain, replica and candidate."""
    strategy = QAlign(max_tokens=6, chains=2, tempering=(3.0,), candidates=2)
    counts = []
    for steps in (25, 50):
        policy = Counting()
        run(with_steps(strategy, steps), policy, prompts=("1",))
        counts.append(len(policy.drawn))
    assert counts[0] == 2 * 2 + 25 * 2 * 2 * 2
    assert counts[1] - counts[0] == 25 * 2 * 2 * 2


@pytest.mark.engine
def test_extension_on_the_engine(policy, reward, tmp_path):
    strategy = QAlign(max_tokens=64, chains=2, beta=2.0, answer=VOTE)
    prompts = [
        {"messages": [{"role": "user", "content": problem("heldout", i).question}]}
        for i in range(2)
    ]

    def ask(steps, journal=None):
        return run(with_steps(strategy, steps), policy, journal, reward, prompts)

    path = tmp_path / "journal"
    with Journal(path) as journal:
        before = ask(25, journal)
        num_before = len(path.read_text().splitlines())
        assert journal.statistics().recorded == num_before - 1
        after = ask(50, journal)
        statistics = journal.statistics()
    num_draws = sum(len(steps) for one in after for path, steps in moves(one, 50).items() if path)
    assert num_draws == 2 * 2 * 50
    # a record is a draw or a reward; a response that came twice was judged once
    recorded = statistics.recorded - (num_before - 1)
    assert 2 * 2 * 25 < recorded <= 2 * 2 * 2 * 25
    whole = ask(50)
    assert [one.outputs for one in after] == [one.outputs for one in whole]
    for one, other, shorter in zip(after, whole, before, strict=True):
        assert moves(one, 50) == moves(other, 50)
        assert moves(one, 25) == moves(shorter, 25)
        assert one.alignment.diagnostics == other.alignment.diagnostics
