import asyncio
import dataclasses
import functools
import hashlib
import json
import math
import threading
import tracemalloc
from typing import ClassVar

import numpy as np
import pytest

from rsalign import (
    Aligner,
    BestOf,
    ConfigError,
    FixedSize,
    Key,
    Message,
    Plain,
    PolicyError,
    Prompt,
    Punctuation,
    RewardError,
    align,
)
from rsalign.core.journal import Journal, JournalStatistics, request_address
from rsalign.core.journaled import JournaledPolicy, JournaledReward, decode_segment, encode_segment
from rsalign.core.protocols import Ranked, Scored
from rsalign.core.types import Certainty, Response, Segment, Stop
from rsalign.rewards import Cached, FunctionReward, Metered, Scaled, WeightedSum
from rsalign.testing import EOS, ToyPolicy, ToyReward, check_policy, check_reward, check_strategy

PROMPT = Prompt((Message("user", "1"),), (1,))
BEST = BestOf(n=6, inner=Plain(max_tokens=6))


def run(journal, strategy=BEST, policy=None, reward=None):
    return asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=policy or ToyPolicy(4),
            reward=reward or ToyReward(),
            journal=journal,
            seed=3,
        )
    )


def test_replaying_costs_nothing_and_changes_nothing(tmp_path):
    free = run(None)
    with Journal(tmp_path / "j") as journal:
        first = run(journal)
        assert journal.statistics().recorded == 12
    with Journal(tmp_path / "j") as journal:
        again = run(journal)
        assert (journal.statistics().recorded, journal.statistics().replayed) == (0, 12)
    assert (free.usage.replayed, first.usage.replayed, again.usage.replayed) == (0, 0, 6)
    for result in (first, again):
        assert result.candidate == free.candidate
        assert result.trace.proposals == free.trace.proposals
        assert result.usage.policy_tokens_drawn == free.usage.policy_tokens_drawn


def test_what_other_journals_have_is_found_and_they_are_only_read(tmp_path):
    with Journal(tmp_path / "one") as journal:
        run(journal, BestOf(n=4, inner=Plain(max_tokens=6)))
        with (tmp_path / "one").open("ab") as file:
            file.write(b'["torn')  # as another process's may be at any moment
        one = (tmp_path / "one").read_bytes()
        with Journal(tmp_path / "two", also=[tmp_path / "one"]) as mine:
            result = run(mine)
            assert (mine.statistics().replayed, mine.statistics().recorded) == (8, 4)
    assert (tmp_path / "one").read_bytes() == one
    assert result.candidate == run(None).candidate
    first, second, *_ = one.splitlines()
    (tmp_path / "three").write_bytes(b"\n".join([first, second, b"garbage", b""]))
    with pytest.raises(ConfigError, match="three is damaged: line 3 is b'garbage', which is no"):
        Journal(tmp_path / "three")
    (tmp_path / "two").write_text("something else\n")
    with pytest.raises(ConfigError, match="two is not a journal"):
        Journal(tmp_path / "three", also=[tmp_path / "two"])


def test_a_longer_run_pays_for_the_difference(tmp_path):
    with Journal(tmp_path / "j") as journal:
        run(journal, BestOf(n=4, inner=Plain(max_tokens=6)))
        assert journal.statistics().recorded == 8
        eight = run(journal, BestOf(n=8, inner=Plain(max_tokens=6)))
        assert journal.statistics().recorded == 16
    assert eight.candidate == run(None, BestOf(n=8, inner=Plain(max_tokens=6))).candidate


def test_laws_and_models_are_not_mixed_up(tmp_path):
    with Journal(tmp_path / "j") as journal:
        for salt in range(3):
            policy, reward = ToyPolicy(4, salt), ToyReward(salt)
            mine = run(journal, policy=policy, reward=reward)
            assert mine.candidate == run(None, policy=policy, reward=reward).candidate


def test_a_run_that_dies_goes_on(tmp_path):
    class Dies(ToyPolicy):
        calls = 0

        async def extend(self, *given, **named):
            Dies.calls += 1
            if Dies.calls > 3:
                raise RuntimeError("power cut")
            return await super().extend(*given, **named)

        @property
        def fingerprint(self):
            return repr(ToyPolicy(4))

    with Journal(tmp_path / "j") as journal, pytest.raises(PolicyError, match="power cut"):
        run(journal, policy=Dies(4))
    with Journal(tmp_path / "j") as journal:
        result = run(journal)
        assert journal.statistics().replayed >= 3
        assert result.usage.replayed == 3
    assert result.candidate == run(None).candidate


@pytest.mark.parametrize("seed", range(10))
def test_a_file_cut_anywhere_is_a_shorter_journal(tmp_path, seed):
    with Journal(tmp_path / "j") as journal:
        whole = run(journal)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[: Key(seed).below(len(content))])
    with Journal(tmp_path / "j") as journal:
        assert run(journal).candidate == whole.candidate
    assert set((tmp_path / "j").read_bytes().splitlines()) == set(content.splitlines())


class Shifted:
    """A reward without a word of its own."""

    def __init__(self, shift):
        self.shift = shift

    async def score(self, prompt, response):
        return len(response.tokens) * self.shift

    def rate(self, prompt, response):
        return len(response) * self.shift

    __call__ = rate


@dataclasses.dataclass(frozen=True)
class FrozenShift:
    shift: float

    async def score(self, prompt, response):
        return len(response.tokens) * self.shift


def times(shift, prompt, response):
    return len(response) * shift


def shifted(shift):
    return lambda prompt, response: len(response) * shift


def edited(shift):
    scope = {}
    exec(f"def rate(prompt, response): return len(response) * {shift}", scope)
    return scope["rate"]


OTHERS = {
    "closures": lambda shift: FunctionReward(shifted(shift)),
    "lambdas": lambda shift: FunctionReward(
        {1: lambda p, r: len(r), -1: lambda p, r: -len(r)}[shift]
    ),
    "partials": lambda shift: FunctionReward(functools.partial(times, shift)),
    "callable objects": lambda shift: FunctionReward(Shifted(shift)),
    "bound methods": lambda shift: FunctionReward(Shifted(shift).rate),
    "edited functions": lambda shift: FunctionReward(edited(shift)),
    "own rewards": Shifted,
    "own dataclasses": FrozenShift,
    "wrapped": lambda shift: Cached(Metered(FrozenShift(shift))),
    "scaled": lambda shift: Scaled(FrozenShift(1), shift),
    "in a sum": lambda shift: WeightedSum([FrozenShift(shift)], [1]),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_another_reward_is_asked_and_the_same_is_replayed(tmp_path, make):
    plain = BestOf(n=6, inner=Plain(max_tokens=6))
    # first the draws are made, then the other reward is asked, and then all is there
    for shift, replayed, is_paid in ((1, 0, True), (-1, 6, True), (1, 6, False), (-1, 6, False)):
        with Journal(tmp_path / "j") as journal:
            result = run(journal, plain, reward=make(shift))
            assert result.usage.replayed == replayed
            assert bool(journal.statistics().recorded) == is_paid
        free = run(None, plain, reward=make(shift))
        assert (result.candidate, result.reward) == (free.candidate, free.reward)


def test_a_reward_that_was_changed_is_another_in_the_next_run(tmp_path, caplog):
    reward = Shifted(1)
    with Journal(tmp_path / "j") as journal:
        for shift in (1, -1):
            reward.shift = shift
            assert run(journal, reward=reward).reward == run(None, reward=reward).reward
    assert "Shifted has changed" in caplog.text


def test_a_reward_that_counts_its_calls_is_one_reward_for_all_of_a_batch(tmp_path):
    class Counts:
        def __init__(self):
            self.calls = 0

        async def score(self, prompt, response):
            self.calls += 1
            return float(len(response.tokens))

    first = Counts()
    with Aligner(ToyPolicy(4), first, BEST, journal=tmp_path / "j") as aligner:
        before = aligner.generate(["1", "2", "3"])
    again = Counts()
    with Aligner(ToyPolicy(4), again, BEST, journal=tmp_path / "j") as aligner:
        after = aligner.generate(["1", "2", "3"])
    assert first.calls > 3
    assert again.calls == 0
    assert [one.outputs for one in after] == [one.outputs for one in before]


def test_a_part_that_changes_while_its_fingerprint_is_held_is_the_same_part(tmp_path):
    async def changed(journal, reward):
        before = journal.fingerprint_of(reward)
        async with journal.hold_fingerprints(reward):
            reward.shift += 1
            during = journal.fingerprint_of(reward)
        return before == during, before == journal.fingerprint_of(reward)

    with Journal(tmp_path / "j") as journal:
        assert asyncio.run(changed(journal, Shifted(1))) == (True, False)


def test_memory_holds_positions_of_records_and_not_their_content(tmp_path):
    with Journal(tmp_path / "j") as journal:
        for i in range(50):
            journal.record(request_address(i), [0.123456789] * 2_000)
    tracemalloc.start()
    try:
        with Journal(tmp_path / "j", also=[tmp_path / "j"]) as journal:
            held, _ = tracemalloc.get_traced_memory()
            assert journal.find(request_address(7)) == [0.123456789] * 2_000
    finally:
        tracemalloc.stop()
    assert held < (tmp_path / "j").stat().st_size / 10


def test_what_cannot_be_told_is_refused_before_any_work(tmp_path):
    lock = threading.Lock()
    policy = Drawn()

    def rate(prompt, response):
        with lock:
            return 1.0

    with pytest.raises(ConfigError, match=r"closure variable 'lock'.*`fingerprint = "):
        Aligner(policy, rate, BEST, journal=tmp_path / "j")
    with Aligner(policy, Shifted(lock), Plain(), journal=None) as aligner:
        aligner._parts.journal = Journal(tmp_path / "j")  # as given later
        with pytest.raises(ConfigError, match=r"Shifted\.shift is a _thread\.lock"):
            aligner.generate("1")
        aligner._parts.journal.close()
    with Journal(tmp_path / "j") as journal, pytest.raises(ConfigError, match="Shifted"):
        run(journal, reward=Shifted(lock), policy=policy)
    assert policy.drawn == []
    rate.fingerprint = "always 1"
    with Aligner(policy, rate, BEST, journal=tmp_path / "j") as aligner:
        assert aligner.generate("1")[0].outputs[0].reward == 1.0
    named = {"fingerprint": "always 1", "num_workers": 1}
    del rate.fingerprint
    with Aligner(policy, rate, BEST, journal=tmp_path / "j", reward_args=named) as aligner:
        (again,) = aligner.generate("1")
    assert again.alignment.usage.replayed == 6


class Drawn(ToyPolicy):
    """Knows what it was asked, and says all that a policy may."""

    fingerprint = "drawn"

    def __init__(self):
        super().__init__(4)
        object.__setattr__(self, "drawn", [])

    async def extend(self, prefix, **given):
        self.drawn.append(given["key"])
        segment = await super().extend(prefix, **given)
        return dataclasses.replace(segment, boundary_entropy=0.1 + 0.2, cached_tokens=3)


def test_all_of_a_segment_comes_back(tmp_path):
    with Journal(tmp_path / "j") as journal:
        policy = JournaledPolicy(Drawn(), journal)
        inner = Segment((3,), (-0.5,), Stop.BOUNDARY)
        for draw in (policy.extend, policy.measure):
            first, again = (asyncio.run(draw((1,), max_new_tokens=4, key=Key(2))) for _ in range(2))
            assert again == first
            for name in ("log_probs", "boundary_entropy", "certainty", "cached_tokens"):
                assert getattr(again, name) == getattr(first, name), name
        beyond = Segment((1,), None, Stop.BOUNDARY, "x", 2, None, None, inner)
        assert journal_copy(beyond) == (beyond, inner)


def journal_copy(segment):
    copied = decode_segment(json.loads(json.dumps(encode_segment(segment))))
    return copied, copied.beyond


def test_log_probs_keep_their_ranks(tmp_path):
    class Ranks(ToyPolicy):
        fingerprint = "ranks"

        async def log_probs(self, prefix, tokens):
            plain = await super().log_probs(prefix, tokens)
            return (Ranked(plain[0], rank=7), *plain[1:])

    with Journal(tmp_path / "j") as journal:
        policy = JournaledPolicy(Ranks(4), journal)
        first, again = (asyncio.run(policy.log_probs((1,), (2, 3))) for _ in range(2))
        assert journal.statistics().recorded == 1
    assert first == again
    assert [getattr(one, "rank", None) for one in again] == [7, None]


KEY = Key(5, ("a", 1))
DRAWS = {
    "key": {"key": Key(6, ("a", 1))},
    "path": {"key": Key(5, ("a", "1"))},
    "length": {"max_new_tokens": 5},
    "prefix": {"prefix": (1, 2)},
    "boundary": {"boundary": FixedSize(2)},
    "size": {"boundary": FixedSize(3)},
    "kind of boundary": {"boundary": Punctuation(marks=".", max_tokens=4)},
    "own boundary": {"boundary": "OwnBoundary(2)"},
    "another own boundary": {"boundary": "OwnBoundary(3)"},
}


class OwnBoundary:
    """A rule of someone's, without a representation."""

    engine_arguments: ClassVar[dict] = {}

    def __init__(self, size):
        self.max_tokens = size

    def ends_before(self, num_drawn, entropy):
        return False

    def ends_after(self, num_drawn, entropy, text):
        return False


def test_all_that_a_draw_depends_on_is_in_its_address(tmp_path):
    """One journal, one root: every draw that differs in one thing is made, and made once."""
    policy = Drawn()
    usual = {"prefix": (1,), "max_new_tokens": 4, "key": KEY, "boundary": None}
    asked = [usual] + [usual | change for change in DRAWS.values()]
    with Journal(tmp_path / "j") as journal:
        journaled = JournaledPolicy(policy, journal)
        for round_ in range(2):
            for given in asked:
                named = dict(given)
                if isinstance(named["boundary"], str):
                    named["boundary"] = OwnBoundary(int(named["boundary"][-2]))
                prefix = named.pop("prefix")
                for draw in (journaled.extend, journaled.measure):
                    segment = asyncio.run(draw(prefix, **named))
                    assert (segment.certainty is not None) == (draw == journaled.measure)
            assert journal.statistics().recorded == len(policy.drawn) == 2 * len(asked)
            assert journal.statistics().replayed == round_ * 2 * len(asked)


SYSTEM = Prompt((Message("system", "a"), Message("user", "b")), (1,))
RESPONSE = Response((1, 2), "1 2", Stop.EOS, (-1.0, -2.0))
SCORES = {
    "roles": (Prompt((Message("user", "a"), Message("user", "b")), (1,)), RESPONSE),
    "messages": (Prompt((Message("system", "a"), Message("user", "c")), (1,)), RESPONSE),
    "turns": (Prompt((Message("system", "a"),), (1,)), RESPONSE),
    "tokens of the prompt": (Prompt(SYSTEM.messages, (1, 1)), RESPONSE),
    "text": (SYSTEM, dataclasses.replace(RESPONSE, text="1  2")),
    "tokens": (SYSTEM, dataclasses.replace(RESPONSE, tokens=(2, 1))),
    "a turn that is open": (SYSTEM, dataclasses.replace(RESPONSE, stop=Stop.LENGTH)),
    "a boundary": (SYSTEM, dataclasses.replace(RESPONSE, stop=Stop.BOUNDARY)),
    "nothing drawn": (SYSTEM, dataclasses.replace(RESPONSE, stop=None)),
    "a stop string": (SYSTEM, dataclasses.replace(RESPONSE, stop=Stop.STOP, stop_reason="x")),
    "another one": (SYSTEM, dataclasses.replace(RESPONSE, stop=Stop.STOP, stop_reason="y")),
    "a stop token": (SYSTEM, dataclasses.replace(RESPONSE, stop=Stop.STOP, stop_reason=5)),
    "log-probabilities": (SYSTEM, dataclasses.replace(RESPONSE, log_probs=(-1.0, -3.0))),
    "certainty": (SYSTEM, dataclasses.replace(RESPONSE, certainty=Certainty((1.0,), (2.0,)))),
}


class Everything:
    """A reward that reads all there is, of every kind."""

    fingerprint = "everything"

    def __init__(self):
        self.asked = 0

    def value(self, *given):
        self.asked += 1
        return Scored(int(hashlib.sha1(repr(given).encode()).hexdigest()[:8], 16), tokens=2)

    async def score(self, prompt, response):
        return self.value(prompt, response)

    async def score_steps(self, prompt, response, ends):
        return tuple(Scored(end) for end in ends) if self.value() else ()

    async def prefer(self, prompt, one, other):
        self.asked += 1
        return 1.0 if one.text == "first" else 0.0


def test_all_that_a_reward_reads_is_in_its_address(tmp_path):
    reward = Everything()
    asked = [(SYSTEM, RESPONSE), *SCORES.values()]
    with Journal(tmp_path / "j") as journal:
        journaled = JournaledReward(reward, journal)
        first = [asyncio.run(journaled.score(*one)) for one in asked]
        assert reward.asked == len(asked) == len(set(first))
        again = [asyncio.run(journaled.score(*one)) for one in asked]
        assert again == first
        assert {value.tokens for value in again} == {2}
        assert reward.asked == len(asked)


def test_steps_and_preferences_are_on_record(tmp_path):
    reward = Everything()
    one, other = (dataclasses.replace(RESPONSE, text=text) for text in ("first", "second"))

    async def ask(journaled):
        return (
            await journaled.score_steps(SYSTEM, RESPONSE, (1, 2)),
            await journaled.score_steps(SYSTEM, RESPONSE, (1, 3)),
            await journaled.score_steps(SYSTEM, RESPONSE, (2,)),
            await journaled.prefer(SYSTEM, one, other),
            await journaled.prefer(SYSTEM, other, one),
        )

    with Journal(tmp_path / "j") as journal:
        for _ in range(2):
            answers = asyncio.run(ask(JournaledReward(reward, journal)))
            assert answers == ((1, 2), (1, 3), (2,), 1.0, 0.0)
            assert reward.asked == 5


@pytest.mark.parametrize("value", [math.nan, math.inf, "3", None])
def test_what_is_no_finite_number_is_not_on_record(tmp_path, value):
    class Broken:
        fingerprint = "mended later"

        async def score(self, prompt, response):
            return self.value

    broken = Broken()
    with Journal(tmp_path / "j") as journal:
        journaled = JournaledReward(broken, journal)
        broken.value = value
        with pytest.raises(RewardError, match="by Broken is"):
            asyncio.run(journaled.score(SYSTEM, RESPONSE))
        for broken.value in (7.0, value):
            assert asyncio.run(journaled.score(SYSTEM, RESPONSE)) == 7.0
        assert journal.statistics().recorded == 1


def test_numbers_of_numpy_are_on_record(tmp_path):
    class Numpy(ToyPolicy):
        fingerprint = "NumPy"

        async def extend(self, prefix, **given):
            drawn = await super().extend(prefix, **given)
            tokens = tuple(np.array(drawn.tokens))
            return dataclasses.replace(drawn, tokens=tokens, log_probs=tuple(np.float32([-1, -1])))

        async def score(self, prompt, response):
            return np.float32(0.5)

    with Journal(tmp_path / "j") as journal:
        policy, reward = JournaledPolicy(Numpy(4), journal), JournaledReward(Numpy(4), journal)
        for _ in range(2):
            drawn = asyncio.run(policy.extend((1,), max_new_tokens=2, key=KEY))
            assert (drawn.tokens, drawn.log_probs) == (drawn.tokens, (-1.0, -1.0))
            assert asyncio.run(reward.score(SYSTEM, RESPONSE)) == 0.5
        assert journal.statistics() == JournalStatistics(replayed=2, recorded=2)


@pytest.mark.parametrize("version", ["rsalign journal 1", "rsalign journal 2"])
def test_a_journal_of_another_version_says_so(tmp_path, version):
    (tmp_path / "j").write_text(json.dumps(version) + '\n["0123", [1.0, 0, 0]]\n')
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(ConfigError, match=f"of another version.*{version}.*'rsalign journal 3'"):
        Journal(tmp_path / "j")
    with pytest.raises(ConfigError, match="of another version"):
        Journal(tmp_path / "k", also=[tmp_path / "j"])
    assert (tmp_path / "j").read_bytes() == before


def test_another_file_is_refused(tmp_path):
    (tmp_path / "j").write_text("something else\n")
    with pytest.raises(ConfigError, match="not a journal"):
        Journal(tmp_path / "j")
    with pytest.raises(ConfigError, match="cannot open"):
        Journal(tmp_path / "no" / "j")
    assert (tmp_path / "j").read_text() == "something else\n"


def test_one_writer_at_a_time(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(ConfigError, match="in use"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_conformance(tmp_path):
    with Journal(tmp_path / "j") as journal:
        policy = JournaledPolicy(ToyPolicy(4), journal)
        reward = JournaledReward(ToyReward(), journal)
        asyncio.run(check_policy(policy, [(1,), (2, 3)], eos=EOS))
        examples = [
            (PROMPT, Response((1, 2), "1 2", Stop.BOUNDARY)),
            (PROMPT, Response((), "", None)),
        ]
        asyncio.run(check_reward(reward, examples))
        asyncio.run(check_strategy(BEST, PROMPT, policy, reward, eos=EOS))


def test_the_aligner_opens_and_closes_one(tmp_path):
    for _ in range(2):
        with Aligner(ToyPolicy(4), ToyReward(), BEST, journal=tmp_path / "j") as aligner:
            results = aligner.generate(["1", "2"])
    lines = (tmp_path / "j").read_text().splitlines()
    assert json.loads(lines[0]) == "rsalign journal 3"
    assert len(lines) == 1 + 2 * 12
    assert len(results) == 2


@pytest.mark.parametrize("path", [None, 5, b"journal", ["journal"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ConfigError, match=r"Journal\(path=.*give a string, or a file's path"):
        Journal(path)
