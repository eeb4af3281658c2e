"""When chains stop, and that it does not depend on which of them is faster."""

import asyncio
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from chain_law import PROMPT

from rsalign import ConfigError, Key, Run
from rsalign.chains.diagnostics import effective_samples
from rsalign.chains.kernel import Step
from rsalign.chains.stopping import DecidedLead, EffectiveSamples
from rsalign.core.trace import Trace
from rsalign.core.types import Candidate, Response, Stop
from rsalign.selectors import MajorityVote
from rsalign.selectors.leads import log_evidence
from rsalign.strategies.qalign import QAlign
from rsalign.testing import ToyPolicy, ToyReward, responses


def first_word(text):
    return text[:1] or None


def length(text):
    return "long" if len(text) > 3 else "short"


@dataclass(frozen=True)
class Slow(ToyPolicy):
    """Every draw takes some turns of the event loop, by its address: other salts, other chains."""

    dawdle: int = 0
    calls: list = field(default_factory=list)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        self.calls.append(key.path)
        if self.dawdle:
            lazy = Key(self.dawdle, key.path[:2])  # a chain is slow throughout, and now and then
            for _ in range(lazy.below(6) ** 2 + Key(self.dawdle, key.path).below(9)):
                await asyncio.sleep(0)
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


PLAIN = QAlign(
    steps=60,
    beta=0.5,
    max_tokens=4,
    chains=4,
    answer=MajorityVote(extract=first_word),
)
RULES = {
    "steps": PLAIN,
    "effective samples": replace(PLAIN, stopping=EffectiveSamples(at_least=20.0, every=3)),
    "lead": replace(
        PLAIN,
        steps=200,
        answer=MajorityVote(extract=length),
        stopping=DecidedLead(error=0.1, every=4),
    ),
    "replicas": replace(
        PLAIN,
        chains=3,
        pool=6,
        tempering=(3.0, math.inf),
        candidates=2,
        burn_in=5,
        stopping=EffectiveSamples(at_least=8.0, every=2),
    ),
}


def outcome(strategy, dawdle, seed):
    events = []
    policy = Slow(4, 1, dawdle=dawdle)
    run = Run(policy, ToyReward(1), Key(seed), Trace(on_progress=events.append))
    answer = asyncio.run(strategy.sample(PROMPT, run))
    return (answer, run.trace.notes, events), policy.calls


@pytest.mark.parametrize("strategy", RULES.values(), ids=RULES)
@pytest.mark.parametrize("seed", range(3))
def test_speed_changes_nothing(strategy, seed):
    outcomes, calls = zip(*(outcome(strategy, dawdle, seed) for dawdle in range(4)), strict=True)
    assert all(one == outcomes[0] for one in outcomes[1:])
    assert len({tuple(path) for path in calls}) > 1, "no chain was ever faster than another"
    notes = outcomes[0][1]
    assert notes["stopped_early"] == (strategy.stopping is not None)
    assert (notes["num_steps"] < strategy.steps) == notes["stopped_early"]


def test_chains_that_were_ahead_had_made_steps_for_nothing():
    """Otherwise the test above would have seen nothing but chains in step."""
    strategy = RULES["effective samples"]
    (_, notes, _), calls = outcome(strategy, dawdle=1, seed=0)
    assert len(calls) > strategy.chains * (1 + notes["num_steps"])


def test_effective_samples_stop_at_the_first_look_that_shows_enough():
    strategy = RULES["effective samples"]
    (_, notes, _), _ = outcome(strategy, dawdle=0, seed=1)
    size = notes["num_steps"]
    rewards = notes["rewards"]  # of the start and of each step
    rows = [rewards[c * (size + 1) + 1 : (c + 1) * (size + 1)] for c in range(4)]
    looks = [effective_samples([row[:t] for row in rows]) or 0 for t in range(3, size + 1, 3)]
    assert size % 3 == 0
    assert looks[-1] >= 20
    assert max(looks[:-1], default=0) < 20


class Seen:
    """Never enough; remembers what it was shown."""

    needs_answers = True

    def __init__(self, at=math.inf):
        self.at = at
        self.shown = []

    def enough(self, chains, answers):
        self.shown.append(
            ([[s.state for s in chain] for chain in chains], [list(row) for row in answers])
        )
        return len(self.shown) >= self.at


@pytest.mark.parametrize("tempering", [(), (3.0,)])
@pytest.mark.parametrize("burn_in", [0, 1, 7])
def test_a_rule_sees_what_counts_and_the_answers_of_just_that(tempering, burn_in):
    rule = Seen()
    strategy = replace(
        PLAIN, steps=20, chains=2, tempering=tempering, burn_in=burn_in, stopping=rule
    )
    outcome(strategy, dawdle=3, seed=2)
    first = max(0, burn_in - 1)
    assert [len(chains[0]) for chains, _ in rule.shown] == list(range(1, 21 - first))
    for chains, answers in rule.shown:
        assert answers == [[first_word(state.response.text) for state in chain] for chain in chains]
    last = rule.shown[-1][0]
    assert any(len({state.tokens for state in chain}) > 3 for chain in last)


@pytest.mark.parametrize("burn_in", [0, 1, 9])
def test_nobody_stops_before_anything_counts(burn_in):
    strategy = replace(PLAIN, burn_in=burn_in, stopping=Seen(at=1))
    (_, notes, _), _ = outcome(strategy, dawdle=2, seed=0)
    assert notes["num_steps"] == max(1, burn_in)
    assert len(notes["rewards"]) == 4 * (2 if burn_in == 0 else 1)


def candidate(name):
    return Candidate(Response((name, 0), str(name), Stop.EOS), float(name))


def chain(*states, cut=0):
    """Steps that end in these states, one after the other; equal ones in a row stayed."""
    return [
        Step(
            state=state,
            cut=cut,
            length=2,
            considered=(state,),
            probs=(1.0,),
            moved=state is not before,
        )
        for before, state in itertools.pairwise((None, *states))
    ]


def votes(*chains_of_names):
    """Chains and answers where every name is a state of its own; 0 abstains."""
    chains = [chain(*map(candidate, names)) for names in chains_of_names]
    answers = [[str(name) if name else None for name in names] for names in chains_of_names]
    return chains, answers


LEAD = DecidedLead(error=0.05, every=1)


def test_a_clear_lead_is_decided():
    assert LEAD.enough(*votes([1] * 40))
    assert not LEAD.enough(*votes([1, 2] * 20))
    assert not LEAD.enough(*votes([1, 1, 1]))


def test_a_state_that_stays_is_one_vote():
    stuck = candidate(1)
    assert not LEAD.enough([chain(*[stuck] * 512)], [["1"] * 512])
    assert not LEAD.enough([chain(*[stuck] * 512)] * 3, [["1"] * 512] * 3)


def test_what_lies_before_all_cuts_is_one_vote():
    states = [candidate(1) for _ in range(512)]
    assert LEAD.enough([chain(*states)], [["1"] * 512])
    assert not LEAD.enough([chain(*states, cut=1)], [["1"] * 512])


def test_abstaining_is_no_vote():
    """Four states, each held for ten steps: two votes and two without an answer."""
    held = [state for state in map(candidate, (1, 0, 1, 0)) for _ in range(10)]
    names = [str(int(state.reward)) if state.reward else None for state in held]
    assert not DecidedLead(error=0.6, every=1).enough([chain(*held)], [names])
    assert not LEAD.enough([chain(*held)], [[None] * 40])
    assert LEAD.enough(*votes([1, 0, 0, 1, 1, 0, 1, 1, 0, 1] * 8))


def test_a_slow_chain_is_not_taken_in_by_itself():
    """The answer is the first word, which one step in four draws anew: the level is kept."""
    wrong, beta, error = 0, 0.5, 0.05
    strategy = replace(
        PLAIN, steps=120, beta=beta, chains=1, stopping=DecidedLead(error=error), recycle=False
    )
    for salt in range(40):
        policy, reward, mass = ToyPolicy(4, salt), ToyReward(salt), defaultdict(float)
        for tokens, p in responses(policy, PROMPT.tokens, strategy.max_tokens).items():
            mass[first_word(policy.text(tokens))] += p * math.exp(reward.value(tokens) / beta)
        del mass[None]
        run = Run(policy, reward, Key(salt))
        asyncio.run(strategy.sample(PROMPT, run))
        notes = run.trace.notes
        wrong += notes["stopped_early"] and mass[notes["answer"]] < max(mass.values())
    assert wrong <= 40 * error


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_looks_are_counted(every):
    with pytest.raises(ConfigError, match="every"):
        DecidedLead(every=every)
    with pytest.raises(ConfigError, match="every"):
        EffectiveSamples(at_least=10.0, every=every)


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan, -1.0])
def test_limits_out_of_range_are_refused(value):
    with pytest.raises(ConfigError):
        DecidedLead(error=value)
    with pytest.raises(ConfigError):
        EffectiveSamples(at_least=value)


def test_a_vote_needs_answers():
    with pytest.raises(ConfigError, match="extracts no answers"):
        QAlign(stopping=DecidedLead())


def test_a_leader_that_was_seen_second_must_lead_by_more():
    """The level is shared by the order of appearance: 1/2 to the first, 1/6 to the next.

    Every step draws the whole response anew, so that votes are hardly discounted.
    """
    rule = DecidedLead(error=0.05, every=1)

    def enough(votes):
        steps = [
            Step(
                state=Candidate(Response((i + 1,), vote, Stop.EOS), 0.0),
                cut=0,
                length=1,
                considered=(),
                probs=(),
                moved=True,
            )
            for i, vote in enumerate(votes)
        ]
        return rule.enough([steps], [votes])

    # the same votes in the same places but for the first two: only the order of appearance differs
    rest = ["a"] * 11
    assert math.log(2 / 0.05) < log_evidence(10.7, 1) < log_evidence(11, 1) < math.log(6 / 0.05)
    assert enough(["a", "b", *rest])
    assert not enough(["b", "a", *rest])
