"""A wrapper can do what it wraps can do, no more and no less, through any number of wrappers."""

import asyncio
import copy
import itertools
import pickle

import pytest

from eval.bench.bare_engine import RecordedPolicy, RecordedReward
from rsalign import Budget, ConfigError, Key, Message, Prompt, Response, Sampling, Segment, Stop
from rsalign.core.budget import Meter
from rsalign.core.codes import DrawsByCode
from rsalign.core.journal import Journal
from rsalign.core.journaled import JournaledJudge, JournaledPolicy, JournaledReward
from rsalign.core.meter import MeteredJudge, MeteredPolicy, MeteredReward
from rsalign.core.most_probable import GreedySegment, ListsTokens
from rsalign.core.protocols import (
    Adjustable,
    Encoder,
    Likelihood,
    Loaded,
    Measuring,
    PairwiseReward,
    Policy,
    Ranked,
    Reward,
    Scored,
    Shaped,
    StepReward,
    get_headroom,
    get_sampling,
    require_likelihood,
    require_measuring,
)
from rsalign.core.segment_ends import EndsSegments
from rsalign.core.text.detokenization import Detokenizing
from rsalign.core.text.reasoning import Dividing
from rsalign.core.text.response_text import Redecoding
from rsalign.core.wrapper import ABILITIES, Wrapper
from rsalign.rewards import Cached, Metered, Scaled
from rsalign.serve.guarded_reward import GuardedReward
from rsalign.strategies.pool import _RememberingReward
from rsalign.strategies.priority_sampling import _Greedily
from rsalign.words.parts import _WithEngines

PROMPT = Prompt((Message("user", "1"),), (1,))
ONE, OTHER = (Response((1, token), f"1 {token}", Stop.LENGTH) for token in (1, 2))
LAW = Sampling(temperature=0.5)


class Bare:
    """A policy and nothing besides."""

    fingerprint = "bare"

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        return Segment((1, 2), (-0.5, -0.25), Stop.LENGTH)

    def text(self, tokens):
        return " ".join(map(str, tokens))


async def log_probs(self, prefix, tokens):
    return tuple(Ranked(-1.0, rank=2) for _ in tokens)


async def measure(self, prefix, *, max_new_tokens, key, boundary=None):
    return await self.extend(prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary)


async def most_probable(self, prefix, *, max_new_tokens, num):
    segment = Segment((1, 2), (-0.5, -0.25), Stop.LENGTH)
    return GreedySegment(segment, (((1, -0.5), (3, -1.0)), ((2, -0.25),)), (0,))


async def score_steps(self, prompt, response, ends):
    return tuple(Scored(float(end), tokens=end) for end in ends)


async def prefer(self, prompt, one, other):
    return Scored(0.75, tokens=7)


def with_sampling(self, law):
    made = type(self)()
    made.law = law
    return made


POLICY_MEMBERS = {
    Likelihood: {"log_probs": log_probs},
    Measuring: {"measure": measure},
    Loaded: {"headroom": property(lambda self: 3.0)},
    Shaped: {"sampling": property(lambda self: getattr(self, "law", Sampling(top_k=5)))},
    Encoder: {
        "encode": lambda self, text: (4, 5),
        "encode_chat": lambda self, messages, **options: (len(options), 6),
    },
    Adjustable: {"with_sampling": with_sampling},
    EndsSegments: {"check_boundary": lambda self, boundary: f"by {boundary}"},
    DrawsByCode: {"with_code": with_sampling},
    ListsTokens: {"most_probable": most_probable},
    Detokenizing: {
        "detokenizer": lambda self, prompt: Redecoding(lambda tokens: f"{prompt} {tokens}"),
        "token_text": lambda self, token: f" {token}",
    },
    Dividing: {
        "divides": True,
        "divide": lambda self, prompt, tokens, text, *, complete: (f"{text}{complete}", "hm"),
    },
}
REWARD_MEMBERS = {StepReward: {"score_steps": score_steps}, PairwiseReward: {"prefer": prefer}}


class BareReward:
    fingerprint = "bare"

    async def score(self, prompt, response):
        return Scored(2.0, tokens=5, cached_tokens=1)


def able(base, members, abilities):
    made = {name: at for ability in abilities for name, at in members[ability].items()}
    return type(base.__name__, (base,), {"fingerprint": "bare", **made})()


def every_choice(members):
    return [
        choice
        for size in range(len(members) + 1)
        for choice in itertools.combinations(members, size)
    ]


def a_meter():
    return Meter(PROMPT, Budget(), None)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        yield journal


@pytest.fixture
def policies(journal):
    return [
        lambda inner: MeteredPolicy(inner, a_meter()),
        lambda inner: JournaledPolicy(inner, journal),
        lambda inner: RecordedPolicy(inner=inner),
        lambda inner: _Greedily(inner, 2, None),
        lambda inner: MeteredPolicy(
            JournaledPolicy(MeteredPolicy(inner, a_meter()), journal), a_meter()
        ),
    ]


@pytest.fixture
def rewards(journal):
    return [
        lambda inner: MeteredReward(inner, a_meter()),
        lambda inner: JournaledReward(inner, journal),
        lambda inner: MeteredJudge(inner, a_meter()),
        lambda inner: JournaledJudge(inner, journal),
        RecordedReward,
        lambda inner: GuardedReward(reward=inner),
        Cached,
        Metered,
        lambda inner: Scaled(inner, 2.0, 1.0),
        lambda inner: _WithEngines(inner, ()),
        lambda inner: _RememberingReward(inner, 0, {}),
        lambda inner: MeteredReward(
            JournaledReward(Cached(Metered(Scaled(inner))), journal), a_meter()
        ),
    ]


def all_wrappers(base=Wrapper):
    derived = [one for one in base.__subclasses__() if "_named_class" not in vars(one)]
    return set(derived).union(*map(all_wrappers, derived))


def test_no_wrapper_is_forgotten(policies, rewards):
    tried = [wrap(Bare()) for wrap in policies] + [wrap(BareReward()) for wrap in rewards]
    # by name: `dataclass(slots=True)` makes a class twice, and the first is still around
    found = {
        one.__name__ for one in all_wrappers() if one.__module__.startswith(("rsalign.", "eval."))
    }
    assert found == {type(one).__name__ for one in tried}
    assert set(ABILITIES) == {*POLICY_MEMBERS, *REWARD_MEMBERS}


def test_policies_have_the_abilities_of_what_they_wrap(policies):
    for wrap, abilities in itertools.product(policies, every_choice(POLICY_MEMBERS)):
        inner = able(Bare, POLICY_MEMBERS, abilities)
        wrapper = wrap(inner)
        assert isinstance(wrapper, Policy)
        has = {ability for ability in ABILITIES if isinstance(wrapper, ability)}
        assert has == set(abilities) == {a for a in ABILITIES if isinstance(inner, a)}
        assert isinstance(wrap(wrapper), Likelihood) == (Likelihood in abilities)
        assert get_sampling(wrapper) == get_sampling(inner)
        assert get_headroom(wrapper) == get_headroom(inner)
        assert type(wrapper).__name__ == type(wrap(Bare())).__name__


def test_rewards_have_the_abilities_of_what_they_wrap(rewards):
    for wrap, abilities in itertools.product(rewards, every_choice(REWARD_MEMBERS)):
        inner = able(BareReward, REWARD_MEMBERS, abilities)
        for wrapper in (wrap(inner), wrap(wrap(inner))):
            is_judge = isinstance(wrapper, MeteredJudge | JournaledJudge)
            assert isinstance(wrapper, Reward) or (is_judge and not hasattr(wrapper, "score"))
            assert {a for a in ABILITIES if isinstance(wrapper, a)} == set(abilities)


def test_what_policies_pass_on_is_what_they_wrap_says(policies):
    inner = able(Bare, POLICY_MEMBERS, POLICY_MEMBERS)

    async def ask(policy):
        drawn = await policy.extend((1,), max_new_tokens=2, key=Key(0))
        measured = await policy.measure((1,), max_new_tokens=2, key=Key(0, ("a",)))
        known = await policy.log_probs((1,), (2, 3))
        spoken = policy.encode("a"), policy.encode_chat((), chat_template="x")
        spoken += (policy.check_boundary("a mark"),)
        spoken += (await policy.most_probable((1,), max_new_tokens=2, num=2),)
        divided = policy.divide(PROMPT, (1, 2), "1 2", complete=True)
        ranks = [one.rank for one in known]
        return drawn, measured, known, ranks, spoken, policy.text((1, 2)), divided

    expected = asyncio.run(ask(inner))
    for wrap in policies:
        for _ in range(2):  # drawn, and from the journal
            assert asyncio.run(ask(wrap(inner))) == expected
        reshaped = wrap(inner).with_sampling(LAW)
        assert type(reshaped) is type(wrap(inner))
        assert reshaped.sampling == LAW
        coded = wrap(inner).with_code(LAW)  # passed on as it is
        assert type(coded) is type(wrap(inner))
        assert coded.sampling == LAW


def test_what_rewards_pass_on_is_what_they_wrap_says(rewards):
    inner = able(BareReward, REWARD_MEMBERS, REWARD_MEMBERS)

    async def ask(reward):
        steps = await reward.score_steps(PROMPT, ONE, (1, 2))
        return steps, await reward.prefer(PROMPT, ONE, OTHER), [step.tokens for step in steps]

    expected = asyncio.run(ask(inner))
    for wrap in rewards:
        reward = wrap(inner)
        steps, preference, tokens = expected
        if isinstance(reward, Scaled):
            steps = tuple(2 * step + 1 for step in steps)
        for _ in range(2):
            assert asyncio.run(ask(reward)) == (steps, preference, tokens)


def test_a_scale_turns_preferences_as_it_turns_rewards():
    inner = able(BareReward, REWARD_MEMBERS, REWARD_MEMBERS)
    for scale, expected in ((3, 0.75), (-3, 0.25), (0, 0.5)):
        value = asyncio.run(Scaled(inner, scale).prefer(PROMPT, ONE, OTHER))
        assert (value, value.tokens) == (expected, 7)


def test_what_a_budget_counts_and_ends():
    inner = able(BareReward, REWARD_MEMBERS, REWARD_MEMBERS)
    meter = a_meter()

    async def main():
        metered = MeteredReward(inner, meter)
        await metered.score(PROMPT, ONE)
        await metered.score_steps(PROMPT, ONE, (1, 2))
        await metered.prefer(PROMPT, ONE, OTHER)
        await MeteredPolicy(able(Bare, POLICY_MEMBERS, POLICY_MEMBERS), meter).log_probs((1,), (2,))

    asyncio.run(main())
    usage = meter.usage(0)
    assert (usage.reward_calls, usage.reward_tokens, usage.reward_cached_tokens) == (3, 15, 1)
    assert (usage.policy_requests, usage.prompt_tokens) == (1, 2)
    counted = Metered(inner)
    asyncio.run(counted.score_steps(PROMPT, ONE, (1, 2)))
    asyncio.run(counted.prefer(PROMPT, ONE, OTHER))
    statistics = counted.statistics()
    assert (statistics.calls, statistics.tokens) == (2, 10)


def test_a_missing_ability_is_refused_by_the_name_of_what_is_wrapped(policies):
    for wrap in policies:
        with pytest.raises(ConfigError, match=r"^Bare cannot tell how certain"):
            require_measuring(wrap(Bare()))
        with pytest.raises(ConfigError, match=r"^Bare cannot tell the probability"):
            require_likelihood(wrap(Bare()))
        assert not hasattr(wrap(Bare()), "log_probs")


def test_wrappers_are_copied_and_pickled_with_their_abilities():
    for abilities in every_choice(REWARD_MEMBERS):
        wrapper = Scaled(Picklable.of(abilities), 2.0)
        for made in (copy.copy(wrapper), pickle.loads(pickle.dumps(wrapper))):
            assert type(made) is type(wrapper)
            assert made == wrapper
        assert repr(wrapper).startswith("Scaled(reward=")
        assert isinstance(wrapper, Scaled)


class Picklable(BareReward):
    """Equal to any of its kind."""

    @staticmethod
    def of(abilities):
        return {(): Picklable, (StepReward,): Steps, (PairwiseReward,): Pairs}.get(
            abilities, Both
        )()

    def __eq__(self, other):
        return type(self) is type(other)

    __hash__ = None


class Steps(Picklable):
    score_steps = score_steps


class Pairs(Picklable):
    prefer = prefer


class Both(Steps, Pairs):
    pass
