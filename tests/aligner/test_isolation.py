"""What foreign code raises on one prompt costs that prompt, and nothing else, at every door."""

import asyncio
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from rsalign import (
    Aligner,
    BestOf,
    Budget,
    Cards,
    ConfigError,
    FixedSize,
    Line,
    Plain,
    PolicyError,
    RewardError,
    RsalignError,
    Sampling,
    Stop,
    StrategyError,
)
from rsalign.rewards.ensemble import Routed
from rsalign.rewards.function import FunctionReward
from rsalign.rewards.steps import Steps
from rsalign.selectors import Hard, Knockout, MajorityVote, MinimumBayesRisk
from rsalign.testing import ToyPolicy, ToyReward


class NativePanic(BaseException):
    """As tokenizers in Rust raise it: no `Exception`."""


class UnprintableError(Exception):
    """Its own text fails."""

    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


FAILURES = {
    "TypeError": lambda: TypeError("TextEncodeInput must be Union[...]"),
    "KeyError": lambda: KeyError("missing"),
    "UnicodeEncodeError": lambda: UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates"),
    "RecursionError": RecursionError,
    "TimeoutError": TimeoutError,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "UnprintableError": UnprintableError,
    "ExceptionGroup": lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    "CancelledError": asyncio.CancelledError,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "NativePanic": lambda: NativePanic("index out of range"),
}
BAD = (2, 2)
PROMPTS = ["1", "2 2", "3"]


def is_bad(prompt):
    return prompt.tokens == BAD


@dataclasses.dataclass(frozen=True)
class Faulty(ToyPolicy):
    """Fails on the bad prompt in one of its methods."""

    method: str = ""
    failure: object = None

    def _try(self, method, tokens):
        if method == self.method and tokens[:2] == BAD:
            raise self.failure()

    def encode(self, text):
        tokens = super().encode(text)
        self._try("encode", tokens)
        return tokens

    def encode_chat(self, messages, **named):
        tokens = super().encode_chat(messages, **named)
        self._try("encode", tokens)
        return tokens

    async def extend(self, prefix, **named):
        self._try("extend", prefix)
        return await super().extend(prefix, **named)


@dataclasses.dataclass(frozen=True)
class FaultyReward(ToyReward):
    failure: object = None

    async def score(self, prompt, response):
        if is_bad(prompt):
            raise self.failure()
        return await super().score(prompt, response)

    async def prefer(self, prompt, one, other):
        if is_bad(prompt):
            raise self.failure()
        return 0.5

    async def score_steps(self, prompt, response, ends):
        if is_bad(prompt):
            raise self.failure()
        return (1.0,) * len(ends)


@dataclasses.dataclass(frozen=True)
class FaultyStrategy:
    """Fails on the bad prompt: itself, or as a selector."""

    failure: object
    needs_reward = False

    async def sample(self, prompt, run):
        if is_bad(prompt):
            raise self.failure()
        return await Plain(max_tokens=4).sample(prompt, run)

    async def select(self, prompt, candidates, key):
        if is_bad(prompt):
            raise self.failure()
        return await Hard().select(prompt, candidates, key)


class AfterTwo(ToyPolicy):
    """Its answers to the bad prompt say so, for code that is shown nothing else."""

    async def extend(self, prefix, **named):
        segment = await super().extend(prefix, **named)
        marked = 5 if prefix[:2] == BAD else 4
        tokens = tuple(min(token, 3) or marked for token in segment.tokens)
        # the mark is text, and so no end-of-sequence token
        return dataclasses.replace(segment, tokens=tokens, log_probs=None, stop=Stop.LENGTH)


def on_marked(failure, value):
    def function(text, *_):
        if "5" in text:
            raise failure()
        return value

    return function


def on_bad_text(failure):
    def function(prompt, response):
        if prompt == "2 2":
            raise failure()
        return float(len(response))

    return function


def on_bad_text_later(failure):
    async def function(prompt, response):
        return on_bad_text(failure)(prompt, response)

    return function


PLAIN = Plain(max_tokens=4)
BEST = BestOf(n=3, inner=PLAIN)
# what raises: its policy, reward and strategy, and the error of ours that becomes of it
PLACES = {
    "encode": lambda f: (Faulty(4, method="encode", failure=f), None, PLAIN, ConfigError),
    "extend": lambda f: (Faulty(4, method="extend", failure=f), ToyReward(), BEST, PolicyError),
    "score": lambda f: (ToyPolicy(4), FaultyReward(failure=f), BEST, RewardError),
    "function": lambda f: (ToyPolicy(4), on_bad_text(f), BEST, RewardError),
    "async function": lambda f: (ToyPolicy(4), on_bad_text_later(f), BEST, RewardError),
    "step reward": lambda f: (
        ToyPolicy(4),
        Steps(FaultyReward(failure=f), ToyPolicy(4).text),
        BEST,
        RewardError,
    ),
    "predicate": lambda f: (
        ToyPolicy(4),
        Routed([(lambda prompt: on_bad_text(f)(prompt.text, ""), ToyReward())], ToyReward()),
        BEST,
        RewardError,
    ),
    "strategy": lambda f: (ToyPolicy(4), None, FaultyStrategy(f), StrategyError),
    "inner strategy": lambda f: (
        ToyPolicy(4),
        ToyReward(),
        BestOf(n=3, inner=FaultyStrategy(f)),
        StrategyError,
    ),
    "selector": lambda f: (
        ToyPolicy(4),
        ToyReward(),
        BestOf(n=3, inner=PLAIN, select=FaultyStrategy(f)),
        StrategyError,
    ),
    "judge": lambda f: (
        ToyPolicy(4),
        None,
        BestOf(n=3, inner=PLAIN, select=Knockout(judge=FaultyReward(failure=f))),
        RewardError,
    ),
    "extractor": lambda f: (
        AfterTwo(6),
        None,
        BestOf(n=3, inner=PLAIN, select=MajorityVote(extract=on_marked(f, "1"))),
        StrategyError,
    ),
    "utility": lambda f: (
        AfterTwo(6),
        None,
        BestOf(n=3, inner=PLAIN, select=MinimumBayesRisk(utility=on_marked(f, 1.0))),
        StrategyError,
    ),
}


def conversations():
    return [[{"role": "user", "content": text}] for text in PROMPTS]


def aside(work):
    """What comes of it on a thread: on the main one a KeyboardInterrupt may be the user's own."""
    found = []
    run = (lambda: asyncio.run(work)) if asyncio.iscoroutine(work) else work
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join(30)
    assert found, "the event loop has ended"
    return found[0]


def kinds(error):
    """Of an error and its causes."""
    return [type(error), *kinds(error.__cause__)] if error is not None else []


DOORS = {
    "generate": lambda aligner, **how: aside(lambda: aligner.generate(PROMPTS, **how)),
    "chat": lambda aligner, **how: aside(lambda: aligner.chat(conversations(), **how)),
    "agenerate": lambda aligner, **how: aside(aligner.agenerate(PROMPTS, **how)),
    "achat": lambda aligner, **how: aside(aligner.achat(conversations(), **how)),
}


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("place", PLACES)
def test_the_others_are_answered(place, kind):
    failure = FAILURES[kind]
    policy, reward, strategy, error = PLACES[place](failure)
    with Aligner(policy, reward, strategy) as aligner:
        for door, answer in DOORS.items():
            results = answer(aligner, on_error="return")
            assert [result.finished for result in results] == [True, False, True], door
            assert isinstance(results[1].error, error), door
            assert type(failure()) in kinds(results[1].error), door
            assert len(str(results[1].error)) < 1000
            assert "\n" not in str(results[1].error)


@pytest.mark.parametrize("kind", FAILURES)
def test_raised_it_is_an_error_of_ours_that_has_what_was_complete(kind):
    class Slow(FaultyReward):
        async def score(self, prompt, response):
            if is_bad(prompt):  # until the others are done
                for _ in range(50):
                    await asyncio.sleep(0)
            return await super().score(prompt, response)

    with Aligner(ToyPolicy(4), Slow(failure=FAILURES[kind]), BEST) as aligner:
        with pytest.raises(RewardError) as failed:
            aligner.generate(PROMPTS)
        assert sorted(one.request_id for one in failed.value.finished) == ["0", "2"]
        assert type(FAILURES[kind]()) in kinds(failed.value)
        assert failed.value.prompt.tokens == BAD


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("place", ["encode", "extend", "score", "selector"])
def test_a_stream_ends_in_an_error_of_ours(place, kind):
    policy, reward, strategy, error = PLACES[place](FAILURES[kind])

    async def watch():
        async with Aligner(policy, reward, strategy) as aligner:
            with pytest.raises(error):
                async for _ in aligner.astream("2 2"):
                    pass
            return [event async for event in aligner.astream("1")]

    assert aside(watch())


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_stream_whose_text_cannot_be_decoded(fails_at):
    """To be judged, and to be streamed."""

    class Undecodable(ToyPolicy):
        calls = 0

        def text(self, tokens):
            Undecodable.calls += 1
            if Undecodable.calls == fails_at:
                raise NativePanic("bytes")
            return super().text(tokens)

    async def watch():
        async with Aligner(Undecodable(4), None, PLAIN) as aligner:
            with pytest.raises(PolicyError, match="NativePanic: bytes"):
                async for _ in aligner.astream("1"):
                    pass
        return True

    assert aside(watch())


class Tunable(ToyPolicy):
    def with_sampling(self, sampling):
        if sampling.temperature > 2:
            raise KeyError("of its own kind")
        return self


@dataclasses.dataclass
class Params:
    temperature: object = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: object = 4
    logit_bias: object = None
    allowed_token_ids: object = None
    stop: object = None
    stop_token_ids: object = None
    n: int = 1
    seed: object = None
    presence_penalty: float = 0.0


GOOD = Params()


@pytest.mark.parametrize(
    "wrong",
    [
        Params(temperature=-1.0),
        Params(temperature=3.0),  # with_sampling itself raises
        Params(temperature="hot"),
        Params(temperature=None),
        Params(logit_bias={"word": 1.0}),
        Params(logit_bias=[40]),
        Params(logit_bias={1.5: 1.0}),
        Params(allowed_token_ids=["a"]),
        Params(allowed_token_ids="12"),
        Params(stop=b"x"),
        Params(stop=[b"x"]),
        Params(stop=7),
        Params(stop=[""]),
        Params(stop_token_ids=[None]),
        Params(stop_token_ids=[True]),
        Params(max_tokens="4"),
        Params(max_tokens=0),
        Params(presence_penalty=2.5),
        object(),
        7,
        {"temperature": 1.0},
    ],
)
def test_parameters_that_cannot_work_fail_their_prompt(wrong):
    with Aligner(Tunable(4), None, PLAIN) as aligner:
        results = aligner.generate(["1", "2", "3"], [GOOD, wrong, GOOD], on_error="return")
        assert [result.finished for result in results] == [True, False, True]
        assert isinstance(results[1].error, ConfigError)
        assert "prompt 1: " in str(results[1].error)
        chatted = aligner.chat(conversations(), [GOOD, wrong, GOOD], on_error="return")
        assert [result.finished for result in chatted] == [True, False, True]
        for given in (wrong, [GOOD, wrong, GOOD]):  # one for all is the call's own fault
            with pytest.raises(ConfigError):
                aligner.generate(["1", "2", "3"], given)
        with pytest.raises(ConfigError):
            aligner.generate(["1", "2", "3"], wrong, on_error="return")


def test_a_bias_may_have_its_tokens_as_json_has_them():
    seen = []

    class Looks(ToyPolicy):
        def with_sampling(self, sampling):
            seen.append(sampling)
            return self

    with Aligner(Looks(4), None, PLAIN) as aligner:
        aligner.generate("1", Params(logit_bias={"2": 5.0}, stop_token_ids=["3"]))
    assert seen[0] == Sampling(logit_bias=((2, 5.0),), stop_token_ids=(3,))


@pytest.mark.parametrize(
    "item",
    [
        None,
        7,
        b"1",
        [1, 2],
        {},
        {"prompt": 7},
        {"prompt_token_ids": "12a"},
        {"prompt_token_ids": [1.5]},
        {"prompt_token_ids": [True]},
        {"prompt_token_ids": [None]},
        {"prompt_token_ids": 3},
        {"prompt_token_ids": []},
        {"prompt_token_ids": [2**70]},
        {"prompt_token_ids": [-1]},
        {"messages": None},
        {"messages": "1"},
        {"messages": [7]},
        {"messages": [{"role": "user", "content": {"no": "list"}}]},
        {"messages": [{"role": "user", "content": [7]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"prompt": "1", "id": 1.5},
        {"prompt": "1", "id": ["a list"]},
        {"prompt": "1", "id": 0},
        "a \ud83d",
        "1\x00",
    ],
)
def test_whatever_a_prompt_is_only_it_can_fail(item):
    class Careful(ToyPolicy):
        def text(self, tokens):
            return bytes(tokens).decode("latin-1")

    with Aligner(Careful(4), ToyReward(), BEST) as aligner:
        results = aligner.generate(["1", item, "3"], on_error="return")
        assert [result.finished for result in results] == [True, False, True]
        assert isinstance(results[1].error, RsalignError)
        with pytest.raises(RsalignError):
            aligner.generate(["1", item, "3"])


@pytest.mark.parametrize("conversation", [None, "1", 7, [7], [{"role": "user"}], []], ids=repr)
def test_whatever_a_conversation_is_only_it_can_fail(conversation):
    good = [{"role": "user", "content": "1"}]
    with Aligner(ToyPolicy(4), ToyReward(), BEST) as aligner:
        results = aligner.chat([good, conversation, good], on_error="return")
        assert [result.finished for result in results] == [True, False, True]


@pytest.mark.parametrize("prompts", [None, 7, b"1", [], iter(["1"])])
def test_what_is_no_list_of_prompts_is_refused(prompts):
    with Aligner(ToyPolicy(4), None, PLAIN) as aligner, pytest.raises(ConfigError):
        aligner.generate(prompts, on_error="return")


def test_a_strategy_that_returns_nothing():
    class Nothing:
        needs_reward = False

        async def sample(self, prompt, run):
            return None

    with Aligner(ToyPolicy(4), None, Nothing()) as aligner:
        (result,) = aligner.generate("1", on_error="return")
    assert isinstance(result.error, StrategyError)
    assert "must return a Candidate" in str(result.error)


@pytest.mark.parametrize("strategy", [Plain(max_tokens=3), BestOf(n=8, inner=Plain(max_tokens=3))])
def test_what_fails_when_it_is_cancelled_is_still_cancelled(strategy):
    """A budget is kept, and a batch ends, whatever the reward does when it is told to stop."""

    class Objects(ToyReward):
        async def score(self, prompt, response):
            try:
                await asyncio.sleep(60)
            finally:
                raise OSError("the connection broke")

    with Aligner(ToyPolicy(2), Objects(), strategy) as aligner:
        (answer,) = aligner.generate("1", budget=Budget(seconds=0.2))
        assert answer.alignment.expired

    async def cancelled():
        async with Aligner(ToyPolicy(2), Objects(), strategy) as aligner:
            asking = asyncio.ensure_future(aligner.agenerate(["1"] * 3, on_error="return"))
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        return True

    assert asyncio.run(cancelled())


def test_a_callback_of_the_callers_is_the_callers():
    """What `on_result` raises reaches whoever gave it, and the aligner works on."""

    def leave(result):
        raise SystemExit(5)

    with Aligner(ToyPolicy(4), None, PLAIN) as aligner:
        with pytest.raises(SystemExit):
            aligner.generate(["1", "2"], on_result=leave)
        assert aligner.generate("1")[0].finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process(number):
    """On the main thread an interrupt is the user's, wherever it comes."""
    program = """
import asyncio, signal, sys, time
from rsalign import Aligner, BestOf
from rsalign.testing import ToyPolicy, ToyReward

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))

class Blocks(ToyReward):
    async def score(self, prompt, response):
        print("here", flush=True)
        time.sleep(60)

async def main():
    async with Aligner(ToyPolicy(4), Blocks(), BestOf(n=2)) as aligner:
        await aligner.agenerate(["1", "2"], on_error="return")

asyncio.new_event_loop().run_until_complete(main())
"""
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout.readline() == b"here\n"
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == (7 if number == signal.SIGTERM else -signal.SIGINT), said


def length(prompt, response):
    if prompt == "2 2":
        raise SystemExit(3)
    return float(len(response))


class TwoArgumentsError(Exception):
    """Cannot be unpickled."""

    def __init__(self, one, other):
        super().__init__(one)


def dies(prompt, response):
    if prompt == "2 2":
        os._exit(9)
    return float(len(response))


def cannot_travel(prompt, response):
    if prompt == "2 2":
        raise TwoArgumentsError("one", "other")
    return float(len(response))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (length, r"SystemExit\(3\)"),
        (dies, "exit code 9"),
        (cannot_travel, r"TwoArgumentsError\('one'\)"),
    ],
)
def test_a_process_that_dies_costs_its_own_call(function, said):
    reward = FunctionReward(function, pool="process", num_workers=2)
    try:
        with Aligner(ToyPolicy(4), reward, BEST) as aligner:
            for _ in range(2):  # the pool is as good as new
                results = aligner.generate(PROMPTS, on_error="return")
                assert [result.finished for result in results] == [True, False, True]
                assert isinstance(results[1].error, RewardError)
                assert re.search(said, str(results[1].error))
    finally:
        reward.close()


def test_cards_lose_the_same_answers_whatever_is_drawn_at_once():
    class Picky(ToyReward):
        async def score(self, prompt, response):
            if len(response.tokens) > 1 and response.tokens[1] == 1:
                raise RuntimeError("not this one")
            return await super().score(prompt, response)

    def lost(proposals):
        strategy = Cards(
            segmenter=FixedSize(2), threshold=Line(target=1.0), max_tokens=6, proposals=proposals
        )
        with Aligner(ToyPolicy(4), Picky(), strategy) as aligner:
            results = aligner.generate(["1 2"] * 60, on_error="return")
        return [result.outputs[0].text if result.finished else None for result in results]

    one_by_one = lost(1)
    assert 0 < one_by_one.count(None) < 60
    for proposals in (2, 4, "auto"):
        assert lost(proposals) == one_by_one
