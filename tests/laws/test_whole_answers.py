"""Laws that depend on where the prompt ended: who can have them, and minimal lengths in pieces."""

import asyncio
import math
from dataclasses import dataclass, field, fields, replace

import pytest
from cards_law import PROMPT

from rsalign import BestOf, Budget, FixedSize, Key, Plain, Run, Sampling, Stop, align
from rsalign.core.align import check_law
from rsalign.core.capabilities import cuts_answers
from rsalign.core.errors import ConfigError
from rsalign.core.journal import Journal
from rsalign.core.protocols import with_sampling
from rsalign.core.sampling import WHOLE_ANSWER_FIELDS
from rsalign.core.types import Segment
from rsalign.segments.acceptance import HardAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.selectors import MajorityVote
from rsalign.strategies import STRATEGIES
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.early_stop import EarlyStop
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.rejection import Rejection
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law, law_of

PIECEMEAL = Cards(
    segmenter=FixedSize(2),
    threshold=Constant(value=-9.0),
    acceptance=HardAcceptance(),
    max_tokens=4,
    max_tries=1,
)
STRATEGIES_BY_NAME = {
    "plain": Plain(max_tokens=4),
    "best_of": BestOf(n=2, inner=Plain(max_tokens=4)),
    "early_stop": EarlyStop(
        select=MajorityVote(extract=lambda text: text), n=3, inner=Plain(max_tokens=4)
    ),
    "rejection": Rejection(beta=1.0, bound=2.0, max_tokens=4),
    "cards": replace(PIECEMEAL, threshold=Constant(value=1.0), max_tries=4),
    "calibrate": Calibrate(inner=PIECEMEAL, draws=2),
    "qalign": QAlign(steps=6, max_tokens=4),
    "quest": STRATEGIES["quest"](steps=6, max_tokens=4),
    "power": STRATEGIES["power"](steps=6, max_tokens=4),
    "particles": STRATEGIES["particles"](n=2, segmenter=FixedSize(2), max_tokens=4),
    "beam": STRATEGIES["beam"](segmenter=FixedSize(2), max_tokens=4),
    "dvts": STRATEGIES["dvts"](segmenter=FixedSize(2), max_tokens=4),
    "early_drop": STRATEGIES["early_drop"](n=4, first=2, max_tokens=4),
    "arithmetic_sampling": STRATEGIES["arithmetic_sampling"](
        select=MajorityVote(extract=lambda text: text), n=3, max_tokens=4
    ),
    "deep_conf": STRATEGIES["deep_conf"](
        select=MajorityVote(extract=lambda text: text), n=3, warm_up=1, window=1, max_tokens=4
    ),
    "distinct": STRATEGIES["distinct"](n=2, max_tokens=4),
    "priority_sampling": STRATEGIES["priority_sampling"](n=4, max_tokens=4),
    "stochastic_beam": STRATEGIES["stochastic_beam"](width=2, max_tokens=4),
    "tree_search": STRATEGIES["tree_search"](segmenter=FixedSize(2), rounds=2, max_tokens=4),
    "cautious": STRATEGIES["cautious"](marks="1", trial_tokens=2, max_tokens=4),
    "allocated": STRATEGIES["allocated"](inner=BestOf(n=2, inner=Plain(max_tokens=4))),
    "speculate": STRATEGIES["speculate"](segmenter=FixedSize(1), max_tokens=4),
    "rsd": STRATEGIES["rsd"](segmenter=FixedSize(1), threshold=Constant(value=1.0), max_tokens=4),
    "gsi": STRATEGIES["gsi"](
        segmenter=FixedSize(1), n=2, threshold=Constant(value=1.0), max_tokens=4
    ),
    "chunks": STRATEGIES["chunks"](segmenter=FixedSize(1), max_tokens=4),
    "best of chains": BestOf(n=2, inner=QAlign(steps=6, max_tokens=4)),
}
PARTS = {"draft": ToyPolicy(salt=9)}
CUTTING = STRATEGIES_BY_NAME.keys() - {
    *("plain", "best_of", "early_stop", "rejection", "arithmetic_sampling", "distinct"),
    *("deep_conf", "allocated"),
}


@dataclass(frozen=True)
class Patient(ToyPolicy):
    """Masks EOS as vLLM does: in the first tokens of each *request*, whatever came before."""

    sampling: Sampling = field(default_factory=Sampling)

    def with_sampling(self, law):
        return replace(self, sampling=law)

    def masked(self, prefix, num_drawn):
        """The next token's law after so many tokens of a request, ``(vocab,)``."""
        probs = self.probs(prefix)
        if num_drawn >= self.sampling.min_tokens:
            return probs
        return tuple(0.0 if i == EOS else p / (1 - probs[EOS]) for i, p in enumerate(probs))

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        tokens = ()
        size = min(max_new_tokens, boundary.max_tokens if boundary else max_new_tokens)
        while True:
            probs = self.masked(prefix + tokens, len(tokens))
            tokens += (key.child(len(tokens)).categorical(probs),)
            if tokens[-1] == EOS:
                return Segment(tokens, None, Stop.EOS)
            if len(tokens) == max_new_tokens:
                return Segment(tokens, None, Stop.LENGTH)
            if len(tokens) == size:
                return Segment(tokens, None, Stop.BOUNDARY)


def by_hand(policy, min_tokens, max_tokens):
    """Every answer with its probability if EOS is masked in the first tokens of the answer."""
    done = {}

    def grow(tokens, mass):
        probs = ToyPolicy.probs(policy, PROMPT.tokens + tokens)
        for token, p in enumerate(probs):
            if len(tokens) < min_tokens:
                p = 0.0 if token == EOS else p / (1 - probs[EOS])
            if p and (token == EOS or len(tokens) + 1 == max_tokens):
                done[(*tokens, token)] = mass * p
            elif p:
                grow((*tokens, token), mass * p)

    grow((), 1.0)
    return done


@pytest.mark.parametrize("min_tokens", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_minimal_length_is_that_of_the_answer_and_not_of_each_piece(min_tokens, size):
    policy = Patient(3, 1, sampling=Sampling(min_tokens=min_tokens))
    right = by_hand(policy, min_tokens, 4)
    pieces = replace(PIECEMEAL, segmenter=FixedSize(size))
    assert distance(law_of(Plain(max_tokens=4), policy, ToyReward(), PROMPT), right) < 1e-12
    assert distance(law_of(pieces, policy, ToyReward(), PROMPT), right) < 1e-12


def test_it_would_not_be_if_the_engine_were_told_the_same_each_time():
    """What the test above would see."""
    policy = Patient(3, 1, sampling=Sampling(min_tokens=2))

    async def wrong(key):
        first = await policy.extend(PROMPT.tokens, max_new_tokens=1, key=key.child(0))
        later = await policy.extend(
            PROMPT.tokens + first.tokens, max_new_tokens=3, key=key.child(1)
        )
        return first.tokens + later.tokens

    assert distance(law(wrong), by_hand(policy, 2, 4)) > 0.1


def test_through_a_meter_and_a_journal(tmp_path):
    """Both pass on what is left of the length: answers are those of the policy itself."""
    policy, reward = Patient(3, 1, sampling=Sampling(min_tokens=2)), ToyReward()
    lengths = set()
    with Journal(tmp_path / "journal") as journal:
        for seed in range(40):
            direct = asyncio.run(PIECEMEAL.sample(PROMPT, Run(policy, reward, Key(seed))))
            for given in (None, journal, journal):
                result = asyncio.run(
                    align(PROMPT, PIECEMEAL, policy=policy, reward=reward, seed=seed, journal=given)
                )
                assert result.candidate.tokens == direct.tokens
            lengths.add(len(direct.tokens))
    assert lengths == {3, 4}


@pytest.mark.parametrize("name", STRATEGIES_BY_NAME)
def test_a_strategy_says_whether_it_cuts_answers(name):
    """As it is seen to do: one that does not never sends a part of an answer to the policy."""
    seen = set()

    @dataclass(frozen=True)
    class Seen(ToyPolicy):
        async def extend(self, prefix, **how):
            seen.add(len(prefix) > len(PROMPT.tokens))
            return await ToyPolicy.extend(self, prefix, **how)

        async def most_probable(self, prefix, **how):
            seen.add(len(prefix) > len(PROMPT.tokens))
            return await ToyPolicy.most_probable(self, prefix, **how)

    strategy = STRATEGIES_BY_NAME[name]
    assert cuts_answers(strategy) is (name in CUTTING)
    for seed in range(8):
        asyncio.run(
            align(PROMPT, strategy, policy=Seen(), reward=ToyReward(), seed=seed, parts=PARTS)
        )
    assert (True in seen) is (name in CUTTING)


def test_all_registered_strategies_are_among_these():
    assert STRATEGIES.keys() <= STRATEGIES_BY_NAME.keys()


def test_one_that_does_not_say_counts_as_cutting():
    class Own:
        async def sample(self, prompt, run): ...

    assert cuts_answers(Own())


@pytest.mark.parametrize("name", STRATEGIES_BY_NAME)
def test_refused_before_any_work(name):
    drawn = []

    @dataclass(frozen=True)
    class Penalized(ToyPolicy):
        sampling: Sampling = field(default_factory=lambda: Sampling(presence_penalty=1.0))

        async def extend(self, prefix, **how):
            drawn.append(prefix)
            return await ToyPolicy.extend(self, prefix, **how)

    def run(budget=None):
        strategy = STRATEGIES_BY_NAME[name]
        return asyncio.run(
            align(
                PROMPT,
                strategy,
                policy=Penalized(),
                reward=ToyReward(),
                budget=budget,
                parts=PARTS,
            )
        )

    if name in CUTTING:
        with pytest.raises(ConfigError, match=r"presence_penalty.*continues answers"):
            run()
    else:
        assert run().candidate.tokens
        drawn.clear()
        with pytest.raises(ConfigError, match="completion_tokens=2 exclude each other"):
            run(Budget(policy_tokens=9, completion_tokens=2))
    assert not drawn


VALUES = {
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "bad_words": ("no",),
    "structured_outputs": '{"choice": ["a"]}',
    "thinking_token_budget": 0,
}


@pytest.mark.parametrize("name", WHOLE_ANSWER_FIELDS)
def test_the_last_defence(name):
    """A draft of the rest of an answer is refused, whoever asks for it."""
    sampling = Sampling(**{name: VALUES[name]})
    assert sampling.whole_answer_fields == (name,)
    assert sampling.reshapes
    policy = Patient(3, sampling=sampling)
    run = Run(policy, ToyReward(), Key(0))
    asyncio.run(run.draft(PROMPT, (), max_tokens=3))
    with pytest.raises(ConfigError, match=f"^{name}=.* after 1 kept tokens: "):
        asyncio.run(run.draft(PROMPT, (1,), max_tokens=3))


def test_no_other_setting_needs_whole_answers():
    other = {each.name for each in fields(Sampling)} - VALUES.keys()
    assert {"min_tokens", "ignore_eos", "repetition_penalty", "logit_bias"} <= other
    law = Sampling(min_tokens=2, ignore_eos=True, repetition_penalty=1.2, temperature=0.5, top_k=2)
    assert law.whole_answer_fields == ()
    check_law(QAlign(), law)
    assert law.after(1).min_tokens == 1
    assert law.after(5).min_tokens == 0
    assert law.after(0) is law


def test_a_fixed_law_cannot_have_a_minimal_length_in_pieces():
    class Fixed(ToyPolicy):
        sampling = Sampling(min_tokens=2)

    with pytest.raises(ConfigError, match="its settings are fixed"):
        with_sampling(ToyPolicy(), Sampling())
    with pytest.raises(ConfigError, match="its settings are fixed"):
        asyncio.run(Run(Fixed(), ToyReward(), Key(0)).draft(PROMPT, (1,), max_tokens=3))


@dataclass(frozen=True)
class Stopping(Patient):
    """Looks for stop strings as vLLM does: not in the first tokens of a request."""

    async def extend(self, prefix, **how):
        drawn = await Patient.extend(self, prefix, **how)
        least, law = self.sampling.min_tokens, self.sampling
        after = len(self.text(drawn.tokens[:least]))
        for length in range(least + 1, len(drawn.tokens) + 1):
            stop = law.first_stop(self.text(drawn.tokens[:length]), after)
            if stop is not None:
                return drawn.upto(length, Stop.STOP, stop)
        return drawn


@pytest.mark.parametrize("size", [1, 2, 3])
def test_stop_strings_count_from_the_minimal_length_on(size):
    """And the text ends at the one that counted, not at an earlier one."""
    law_ = Sampling(min_tokens=2, stop=("1",))
    policy = Stopping(3, 1, sampling=law_)

    def answers(strategy):
        async def answer(key):
            run = Run(policy, ToyReward(), key)
            response = (await strategy.sample(PROMPT, run)).response
            return response.tokens, response.text, response.stop

        return law(answer)

    at_once = answers(Plain(max_tokens=5))
    assert ((1, 2, 1), "1 2 ", Stop.STOP) in at_once
    assert ((1, 1, 1), "1 1 ", Stop.STOP) in at_once
    assert not any(stop is Stop.STOP and len(tokens) < 3 for tokens, _, stop in at_once)
    assert math.isclose(sum(at_once.values()), 1)
    pieces = answers(replace(PIECEMEAL, segmenter=FixedSize(size), max_tokens=5))
    assert distance(pieces, at_once) < 1e-12
