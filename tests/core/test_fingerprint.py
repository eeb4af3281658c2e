"""A part is told by content: other values, another fingerprint; the same values, the same."""

import asyncio
import collections
import dataclasses
import enum
import functools
import importlib.metadata
import logging
import operator
import os
import random  # noqa: TID251 - its generators are told apart here; none is drawn from
import re
import subprocess
import sys
import textwrap
import threading
import types
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rsalign import ConfigError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.fingerprint.origin import installed_name
from rsalign.core.fingerprint.values import hash_parts
from rsalign.core.types import Message, Prompt, Response, Stop
from rsalign.rewards import Cached, FunctionReward, Metered, Routed, Scaled
from rsalign.segments import FixedSize, Punctuation
from rsalign.testing import ToyPolicy, ToyReward


class Length:
    """A callable object, and a reward of its own."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, prompt, response):
        return self.factor * len(response)

    def rate(self, prompt, response):
        return self.factor / len(response)

    @classmethod
    def of_class(cls, prompt, response):
        return 1.0


class Slotted:
    __slots__ = ("__hidden", "factor")

    def __init__(self, factor, hidden=0):
        self.factor, self.__hidden = factor, hidden


@dataclasses.dataclass(frozen=True)
class Frozen:
    factor: object
    inner: object = None

    async def score(self, prompt, response):
        return self.factor


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    factor: object


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Sum(float):
    pass


def closure(factor):
    def rate(prompt, response):
        return factor * len(response)

    return rate


def nested(factor):
    inner = closure(factor)
    return lambda prompt, response: inner(prompt, response) + 1


def default(factor, power=1):
    def rate(prompt, response, by=factor, *, power=power):
        return by * len(response) ** power

    return rate


def times(factor, prompt, response):
    return factor * len(response)


def with_attribute(value):
    def rate(prompt, response):
        return rate.value

    rate.value = value
    return rate


def in_scope(source, file="someones_rewards", **scope):
    """A function of a module of its own, compiled from its source."""
    made = types.ModuleType("someones_rewards")
    vars(made).update(scope)
    sys.modules[made.__name__] = made  # where a decorated function is looked for by its name
    exec(compile(textwrap.dedent(source), file, "exec"), vars(made))
    return made.rate


BODY = """
def rate(prompt, response):
    return {}
"""
WRAPPED = """
import contextlib
import torch

class Timed(contextlib.ContextDecorator):
    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return False

@{}
def rate(prompt, response):
    return {}
"""
WRAPPED_METHOD = """
import torch

class Reward:
    @torch.no_grad()
    def __call__(self, prompt, response):
        return {}

rate = Reward()
"""
CLASS = """
import dataclasses

{}
class Reward:
    def __call__(self, prompt, response):
        return {}

rate = Reward()
"""
GLOBAL = """
def rate(prompt, response):
    return helper(response) * FACTOR
"""


def helper(response):
    return len(response)


def other_helper(response):
    return -len(response)


def unpickled(value):
    import pickle

    return pickle.loads(pickle.dumps(value))


DIFFERENT = {
    "lambdas": [lambda: lambda p, r: 1.0, lambda: lambda p, r: -1.0],
    "lambdas over other names": [lambda: lambda p, r: len(p), lambda: lambda p, r: len(r)],
    "lambdas with other operators": [lambda: lambda p, r: p + r, lambda: lambda p, r: p - r],
    "lambdas calling others": [lambda: lambda p, r: r.upper(), lambda: lambda p, r: r.lower()],
    "partials": [lambda: functools.partial(times, 1), lambda: functools.partial(times, -1)],
    "partials by keyword": [
        lambda: functools.partial(times, factor=1),
        lambda: functools.partial(times, factor=2),
    ],
    "partials of others": [
        lambda: functools.partial(max, 1),
        lambda: functools.partial(min, 1),
    ],
    "closures": [lambda: closure(1), lambda: closure(2)],
    "closures of closures": [lambda: nested(1), lambda: nested(2)],
    "default arguments": [lambda: default(1), lambda: default(2), lambda: default(1, 2)],
    "attributes of functions": [lambda: with_attribute(1), lambda: with_attribute(2)],
    "callable objects": [lambda: Length(1), lambda: Length(2)],
    "bound methods": [lambda: Length(1).rate, lambda: Length(2).rate],
    "methods of one object": [lambda: Length(1).rate, lambda: Length(1).__call__],
    "class methods": [lambda: Length.of_class, lambda: Length(1).rate],
    "slots": [lambda: Slotted(1), lambda: Slotted(2)],
    "private slots": [lambda: Slotted(1, 1), lambda: Slotted(1, 2)],
    "frozen dataclasses": [lambda: Frozen(1), lambda: Frozen(2)],
    "with slots": [lambda: FrozenSlots(1), lambda: FrozenSlots(2)],
    "dataclasses in dataclasses": [lambda: Frozen(1, Frozen(1)), lambda: Frozen(1, Frozen(2))],
    "functions in dataclasses": [lambda: Frozen(closure(1)), lambda: Frozen(closure(2))],
    "bodies": [
        lambda: in_scope(BODY.format("len(response)")),
        lambda: in_scope(BODY.format("len(response) + 1")),
        lambda: in_scope(BODY.format("sum(1 for _ in response)")),
        lambda: in_scope(BODY.format("sum(2 for _ in response)")),
        lambda: in_scope(BODY.format("(lambda text: len(text))(response)")),
        lambda: in_scope(BODY.format("(lambda text: -len(text))(response)")),
        lambda: in_scope(BODY.format("response in {'a', 'b'}")),
        lambda: in_scope(BODY.format("response in {'a', 'c'}")),
    ],
    "globals": [
        lambda: in_scope(GLOBAL, helper=helper, FACTOR=1),
        lambda: in_scope(GLOBAL, helper=helper, FACTOR=2),
        lambda: in_scope(GLOBAL, helper=other_helper, FACTOR=1),
    ],
    "members of modules": [
        lambda: in_scope(BODY.format("mine.weigh(response)"), mine=module(weigh=helper)),
        lambda: in_scope(BODY.format("mine.weigh(response)"), mine=module(weigh=other_helper)),
    ],
    "words": [lambda: Word("one"), lambda: Word("two")],
    "numbers": [lambda: 1, lambda: 1.0, lambda: True, lambda: 1j, lambda: Sum(1), lambda: "1"],
    "floats": [lambda: 0.1, lambda: 0.1 + 2**-54, lambda: float("inf"), lambda: float("nan")],
    "texts": [lambda: "a", lambda: "b", lambda: b"a", lambda: "\ud83d", lambda: ""],
    "sequences": [lambda: [1, 2], lambda: [2, 1], lambda: (1, 2), lambda: [[1], 2], lambda: [12]],
    "sets": [lambda: {1, 2}, lambda: {1, 3}, lambda: {1}],
    "dicts": [lambda: {"a": 1}, lambda: {"a": 2}, lambda: {"b": 1}, dict],
    "first matches": [lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}],
    "deep values": [lambda: Frozen({"a": [(1, {2})]}), lambda: Frozen({"a": [(1, {3})]})],
    "enums": [lambda: Colour.RED, lambda: Colour.BLUE],
    "paths": [lambda: Path("/a"), lambda: Path("/b")],
    "patterns": [lambda: re.compile("a"), lambda: re.compile("b"), lambda: re.compile("a", re.I)],
    "arrays": [
        lambda: np.arange(6),
        lambda: np.arange(6).reshape(2, 3),
        lambda: np.arange(6.0),
        lambda: np.arange(6)[::-1],
        lambda: np.array([1, "a"], dtype=object),
        lambda: np.array([1, "b"], dtype=object),
    ],
    "numbers of NumPy": [lambda: np.float32(1), lambda: np.float64(1), lambda: np.int64(1)],
    "functions of NumPy": [lambda: np.add, lambda: np.subtract, lambda: np.mean, lambda: np.std],
    "built in functions": [lambda: len, lambda: max, lambda: "a".count, lambda: "b".count],
    "getters": [lambda: operator.itemgetter(0), lambda: operator.itemgetter(1)],
    "written in C": [
        lambda: collections.deque([1]),
        lambda: collections.deque([2]),
        lambda: collections.deque([1], maxlen=1),
        lambda: Decimal("1.0"),
        lambda: Decimal("1.00"),
        lambda: Fraction(1, 3),
        lambda: random.Random(1),
        lambda: random.Random(2),
    ],
    "cached functions": [
        lambda: functools.lru_cache(closure(1)),
        lambda: functools.lru_cache(closure(2)),
    ],
    "decorated functions": [lambda: decorated(closure(1)), lambda: decorated(closure(2))],
    "rewards of functions": [
        lambda: FunctionReward(closure(1)),
        lambda: FunctionReward(closure(2)),
        lambda: FunctionReward(closure(1), fingerprint="one"),
    ],
    "wrapped rewards": [
        lambda: Scaled(Frozen(1), 2),
        lambda: Scaled(Frozen(2), 2),
        lambda: Scaled(Frozen(1), 3),
        lambda: Cached(Metered(Frozen(1))),
        lambda: Cached(Metered(Frozen(2))),
    ],
    "functions that an installed decorator wraps": [
        lambda: in_scope(WRAPPED.format("torch.no_grad()", 1)),
        lambda: in_scope(WRAPPED.format("torch.no_grad()", 2)),
        lambda: in_scope(WRAPPED.format("torch.inference_mode()", 1)),
        lambda: in_scope(WRAPPED.format("Timed()", 1)),
        lambda: in_scope(WRAPPED.format("Timed()", 2)),
        lambda: in_scope(WRAPPED.format("contextlib.contextmanager", 1)),
        lambda: in_scope(WRAPPED.format("contextlib.contextmanager", 2)),
    ],
    "methods that an installed decorator wraps": [
        lambda: in_scope(WRAPPED_METHOD.format(1)),
        lambda: in_scope(WRAPPED_METHOD.format(2)),
    ],
    "globals with private names": [
        lambda: in_scope(BODY.format("__FACTOR * len(response)"), __FACTOR=1),
        lambda: in_scope(BODY.format("__FACTOR * len(response)"), __FACTOR=2),
    ],
    "factories of defaults": [
        lambda: collections.defaultdict(lambda: 1),
        lambda: collections.defaultdict(lambda: 2),
    ],
    "slices": [lambda: slice(1), lambda: slice(2), lambda: slice(1, 2)],
    "slots from an iterator": [lambda: IteratedSlots(1), lambda: IteratedSlots(2)],
    "classes from a command line": [
        lambda: in_scope(CLASS.format("", 1), file="<string>"),
        lambda: in_scope(CLASS.format("", 2), file="<string>"),
        lambda: in_scope(CLASS.format("@dataclasses.dataclass", 1), file="<string>"),
        lambda: in_scope(CLASS.format("@dataclasses.dataclass", 2), file="<string>"),
    ],
    "classes of arrays": [
        lambda: np.array([[1, 2]]),
        lambda: np.array([[1, 2]]).view(DoubledArray),
        lambda: np.ma.array([[1, 2]], mask=[[0, 0]]),
        lambda: np.ma.array([[1, 2]], mask=[[0, 1]]),
    ],
    "classes of partials": [
        lambda: functools.partial(times, 1),
        lambda: NegativePartial(times, 1),
    ],
    "very large numbers": [lambda: 10**5000, lambda: 10**5000 + 1, lambda: -(10**5000)],
    "keys of many digits": [lambda: {10**5000: 1}, lambda: {10**5000: 2}],
    "predicates": [
        lambda: Routed([(lambda prompt: True, ToyReward())], ToyReward(1)),
        lambda: Routed([(lambda prompt: False, ToyReward())], ToyReward(1)),
    ],
    "boundaries": [lambda: FixedSize(2), lambda: FixedSize(3), lambda: Punctuation()],
    "what derives from our classes": [
        lambda: ToyReward(1),
        lambda: derived(1)(1),
        lambda: derived(2)(1),
        lambda: with_state(1),
        lambda: with_state(2),
    ],
    "classes": [lambda: derived(1), lambda: derived(2), lambda: ToyReward, lambda: ToyPolicy],
}


class IteratedSlots:
    __slots__ = iter(["factor"])

    def __init__(self, factor):
        self.factor = factor


class DoubledArray(np.ndarray):
    def sum(self, *given, **named):
        return 2 * super().sum(*given, **named)


class NegativePartial(functools.partial):
    def __call__(self, *given):
        return -super().__call__(*given)


class Word:
    def __init__(self, word):
        self.fingerprint = word
        self.lock = threading.Lock()


def module(**members):
    made = types.ModuleType("helpers")
    vars(made).update(members)
    return made


def decorated(function):
    @functools.wraps(function)
    def wrapper(*given):
        return function(*given)

    return wrapper


def derived(factor):
    class Derived(ToyReward):
        """Says otherwise than what it is derived from, whose fingerprint it inherits."""

        async def score(self, prompt, response):
            return factor * await super().score(prompt, response)

    return Derived


class WithState(ToyReward):
    async def score(self, prompt, response):
        return self.factor


def with_state(factor):
    reward = WithState()
    object.__setattr__(reward, "factor", factor)
    return reward


@pytest.mark.parametrize("makes", DIFFERENT.values(), ids=DIFFERENT)
def test_other_values_have_other_fingerprints_and_equal_ones_the_same(makes):
    first = [fingerprint(make()) for make in makes]
    assert len(set(first)) == len(first)
    assert [fingerprint(make()) for make in makes] == first
    # wherever they are met
    assert len({fingerprint(Frozen([make()])) for make in makes}) == len(makes)


def test_the_six_cases_of_one_name():
    """What a name alone cannot tell apart: each pair has one qualified name."""
    for name in ("lambdas", "partials", "closures", "callable objects", "bound methods", "bodies"):
        one, other, *_ = (make() for make in DIFFERENT[name])
        assert getattr(one, "__qualname__", type(one)) == getattr(
            other, "__qualname__", type(other)
        )
        assert fingerprint(one) != fingerprint(other)


def test_names_lines_and_files_do_not_matter():
    one = in_scope(BODY.format("len(response)"))
    moved = in_scope("\n\n\n" + BODY.format("len(response)"))
    assert one.__code__.co_firstlineno != moved.__code__.co_firstlineno
    assert fingerprint(one) == fingerprint(moved)
    scope = {}
    exec(compile(BODY.format("len(response)"), "/elsewhere.py", "exec"), scope)
    assert fingerprint(scope["rate"]) == fingerprint(one)


def test_what_is_joined_is_kept_apart():
    assert hash_parts("kind", b"ab", b"c") != hash_parts("kind", b"a", b"bc")
    assert (
        hash_parts("kind", b"ab")
        != hash_parts("kind", b"a", b"b")
        != hash_parts("other", b"a", b"b")
    )


def test_what_is_equal_is_told_equal():
    assert fingerprint({"b", "a", "c"}) == fingerprint({"c", "b", "a"})
    assert fingerprint(frozenset([1, 2])) != fingerprint({1, 3})
    assert fingerprint(functools.partial(times, a=1, b=2)) == fingerprint(
        functools.partial(times, b=2, a=1)
    )
    for value in (Length(1), Frozen(closure), np.arange(3), FixedSize(4), random.Random(1)):
        assert fingerprint(unpickled(value)) == fingerprint(value)
    shared = [1, 2]
    assert fingerprint([shared, shared]) == fingerprint([[1, 2], [1, 2]])


def test_what_refers_to_itself():
    def count(n):
        return n and count(n - 1)

    def other(n):
        return n and other(n - 2)

    assert fingerprint(count) != fingerprint(other)
    loops = [Length(1), Length(1), Length(2)]
    for one in loops:
        one.owner = one
    one, same, differs = map(fingerprint, loops)
    assert one == same != differs
    values = [1]
    values.append(values)
    assert fingerprint(values) == fingerprint(values)


def test_a_graph_of_functions_that_all_call_each_other_is_told_at_once():
    names = [f"f{i}" for i in range(60)]
    calls = " + ".join(f"{name}(n - 1)" for name in names)
    source = "".join(
        f"def {name}(n):\n    return n and {i} + {calls}\n" for i, name in enumerate(names)
    )
    told = [in_scope(f"{source}rate = f{i}\n") for i in (0, 0, 1)]
    assert fingerprint(told[0]) == fingerprint(told[1]) != fingerprint(told[2])


def test_tensors_are_told_by_content():
    torch = pytest.importorskip("torch")
    values = [
        torch.tensor([1.0, 2.0]),
        torch.tensor([1.0, 3.0]),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor(1.0),
    ]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint(torch.tensor([1.0, 2.0], requires_grad=True)) == fingerprint(values[0])
    assert fingerprint(torch.tensor([1.0, 0.0, 2.0])[::2]) == fingerprint(values[0])
    torch.manual_seed(0)
    one, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    assert fingerprint(one) != fingerprint(other)
    other.load_state_dict(one.state_dict())
    sparse = [torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse()]
    assert fingerprint(sparse[0]) != fingerprint(sparse[1])
    assert fingerprint(one) == fingerprint(other)


UNTOLD = {
    "a lock": threading.Lock,
    "an object with a lock": lambda: Length(threading.RLock()),
    "an open file": lambda: open(os.devnull),  # noqa: SIM115 - closed with the process
    "a generator": lambda: (x for x in []),
    "a closure over a lock": lambda: closure(threading.Lock()),
    "a thread": threading.current_thread,
    "a partial with a file": lambda: functools.partial(times, open(os.devnull)),  # noqa: SIM115
    "a default that is a lock": lambda: default(threading.Lock()),
    "a global that is a lock": lambda: in_scope(GLOBAL, helper=helper, FACTOR=threading.Lock()),
    "a local ufunc": lambda: np.frompyfunc(closure(1), 2, 1),
    "an iterator of an open file in a dict": lambda: {"key": iter(open(os.devnull))},  # noqa: SIM115
    "a reward of such a function": lambda: FunctionReward(closure(threading.Lock())),
    "such a reward in another": lambda: (
        Scaled(Cached(Length(threading.Lock())), 2)
        if hasattr(Length, "score")
        else Frozen(threading.Lock())
    ),
    "a word that is no text": lambda: types.SimpleNamespace(fingerprint=3),
    "an empty word": lambda: Word(""),
}


@pytest.mark.parametrize("make", UNTOLD.values(), ids=UNTOLD)
def test_what_has_no_value_is_refused_with_the_word_to_add(make):
    with pytest.raises(ConfigError, match=r'`fingerprint = "'):
        fingerprint(make())


def test_the_refusal_names_what_it_is_about():
    with pytest.raises(
        ConfigError, match=r"Length has no fingerprint.*Length\.factor is a _thread"
    ):
        fingerprint(Length(threading.Lock()))
    with pytest.raises(ConfigError, match=r"closure variable 'factor' of closure.*_thread\.lock"):
        fingerprint(closure(threading.Lock()))
    with pytest.raises(ConfigError, match=r"global variable 'FACTOR' is a _io\.TextIOWrapper"):
        fingerprint(in_scope(GLOBAL, helper=helper, FACTOR=sys.__stderr__))


def test_an_own_word_is_enough():
    assert fingerprint(Word("mine")) == "mine"
    function = closure(threading.Lock())
    function.fingerprint = "closure 1"
    assert fingerprint(function) == "closure 1"
    assert FunctionReward(function).fingerprint == "function closure 1"
    assert fingerprint(Frozen(Word("mine"))) != fingerprint(Frozen(Word("other")))


def test_a_word_is_not_passed_on_by_a_wrapper_that_says_otherwise():
    class Doubled:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        async def score(self, prompt, response):
            return 2 * await self.inner.score(prompt, response)

    doubled = Doubled(ToyReward())
    assert doubled.fingerprint == ToyReward().fingerprint  # as attributes go
    assert fingerprint(doubled) != ToyReward().fingerprint
    assert asyncio.run(doubled.score(None, types.SimpleNamespace(tokens=(1,)))) == 2 * (
        ToyReward().value((1,))
    )


def test_what_only_keeps_answers_is_no_value():
    @dataclasses.dataclass
    class Keeps:
        factor: int

        @functools.cached_property
        def table(self):
            return threading.Lock()

    one, other = Keeps(1), Keeps(1)
    assert one.table is not None
    assert fingerprint(one) == fingerprint(other)
    kept = Cached(Frozen(1))
    assert (
        asyncio.run(
            kept.score(Prompt((Message("user", "1"),), (1,)), Response((1,), "b", Stop.EOS))
        )
        == 1
    )
    assert fingerprint(kept) == fingerprint(Cached(Frozen(1)))
    assert fingerprint(logging.getLogger("a")) != fingerprint(logging.getLogger("b"))


def test_a_setting_that_does_not_count_in_comparisons_is_a_value_all_the_same():
    @dataclasses.dataclass
    class Set:
        factor: int = dataclasses.field(default=1, compare=False)

    @dataclasses.dataclass
    class Made:
        factor: int = dataclasses.field(default=1, init=False)

    assert fingerprint(Set(1)) != fingerprint(Set(2))
    made = Made()
    made.factor = 2
    assert fingerprint(made) != fingerprint(Made())

    @dataclasses.dataclass
    class Given:
        factor: dataclasses.InitVar[int]
        made: int = dataclasses.field(init=False, compare=False)

        def __post_init__(self, factor):
            self.made = factor

    assert fingerprint(Given(1)) != fingerprint(Given(2))


def test_what_raises_when_it_is_read_is_refused_with_the_word_to_add():
    class Dies(bytearray):
        def __reduce_ex__(self, protocol):
            raise SystemExit(3)

    class HasBadWord:
        @property
        def fingerprint(self):
            raise ValueError("no connection")

    with pytest.raises(ConfigError, match=r"raised SystemExit\(3\): give it one"):
        fingerprint(closure(Dies()))
    with pytest.raises(ConfigError, match=r"HasBadWord .* raised ValueError\('no connection'\)"):
        fingerprint(HasBadWord())


def test_an_object_that_has_no_attribute_at_all_is_told():
    class Strict:
        def __getattr__(self, name):
            raise ValueError(name)

    assert fingerprint(Strict()) == fingerprint(Strict())


def test_installed_code_is_told_with_the_version_of_its_package():
    import pytest_timeout

    assert installed_name(np.mean) == f"numpy.mean {np.__version__}"
    assert not hasattr(pytest_timeout, "__version__")  # it is known to the installer alone
    version = importlib.metadata.version("pytest-timeout")
    assert installed_name(pytest_timeout.is_debugging).endswith(f".is_debugging {version}")
    assert installed_name(textwrap.dedent) == "textwrap.dedent "


PROGRAM = """
import functools, re, sys
sys.path.insert(0, {folder!r})
import someones_rewards as m
from rsalign.core.fingerprint import fingerprint
from rsalign.core.fingerprint.values import hash_parts
from rsalign.rewards import FunctionReward, Scaled
from rsalign.testing import ToyReward
parts = [m.rate, m.Length(1), m.Length(1).rate, m.closure(3), functools.partial(m.rate, 1),
         m.Frozen(("a", {{"b", "c", "d"}})), m.Kind.A, re.compile("a"), m.lazy,
         FunctionReward(m.rate), Scaled(ToyReward(), 2)]
print("\\n".join(map(fingerprint, parts)))
"""
MODULE = """
import math
from dataclasses import dataclass
from enum import Enum
WORDS = {"good", "fine", "right"}
def rate(prompt, response): return math.sqrt(sum(word in WORDS for word in response.split()))
def closure(k): return lambda prompt, response: k * rate(prompt, response)
def lazy(prompt, response):
    import beside
    return beside.rate(response)
class Kind(Enum):
    A = 1
class Length:
    def __init__(self, k): self.k = k
    def rate(self, prompt, response): return self.k
    def __call__(self, prompt, response): return self.k
@dataclass(frozen=True)
class Frozen:
    values: tuple
"""


def told(folder, seed):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(folder=str(folder))],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_process_says_the_same_until_the_code_changes(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "someones_rewards.py").write_text(MODULE)
        (folder / "beside.py").write_text("def rate(response): return 1\n")
    first = told(folders[0], "1")
    assert len(set(first)) == len(first)
    assert told(folders[1], "2") == first
    (folders[1] / "someones_rewards.py").write_text(MODULE.replace('"right"', '"wrong"'))
    changed = [a != b for a, b in zip(first, told(folders[1], "1"), strict=True)]
    # the words are told wherever `rate` is called, and nowhere else
    assert changed == [True, False, False, True, True, False, False, False, False, True, False]
    (folders[0] / "beside.py").write_text("def rate(response): return 2\n")
    assert [
        i for i, (a, b) in enumerate(zip(first, told(folders[0], "1"), strict=True)) if a != b
    ] == [8]
