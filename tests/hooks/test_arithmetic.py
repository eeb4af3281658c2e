"""Arithmetic sampling: each sample has its own law exactly, and all together are spread."""

import functools
import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from runners import LENGTH, VOCAB, Request, run_v1, run_v2
from scipy.stats import chi2
from vllm import SamplingParams

from rsalign import ConfigError
from rsalign.hooks import v1, v2
from rsalign.hooks.arithmetic.request import ArithmeticRequest, CodeBook, read_arithmetic_request
from rsalign.hooks.arithmetic.rule import STATE, Codes

CPU = torch.device("cpu")
NOT_SPENT = Fraction(1, 2**24)


@functools.cache
def law(text):
    """A next-token law over 4 tokens, some impossible, that depends on all before."""
    generator = torch.Generator().manual_seed(hash(text) % 2**31)
    logits = torch.randn(4, generator=generator) * 1.5
    logits[len(text) % 3] -= math.inf if len(text) % 2 else 0
    return logits


def draw(codes, length):
    """The first tokens of samples with these codes, ``(samples,)`` of tuples."""
    rows = torch.arange(len(codes))
    memory = torch.full((len(codes), *STATE), -math.inf, dtype=torch.float64)
    asked = [ArithmeticRequest(code, 1.0, 0, 1.0, 0.0) for code in codes]
    sent = Codes.send(asked, 4, CPU, tempered=True)
    texts = [()] * len(codes)
    for step in range(length):
        logits = torch.stack([law(text) for text in texts])
        sent.choose(logits, rows, rows, torch.full_like(rows, step), memory)
        assert (logits.amax(-1) == 1e30).all(), "a code was spent"
        texts = [(*t, int(logits[i].argmax())) for i, t in enumerate(texts)]
    return texts


@functools.cache
def probability(text):
    return math.prod(float(law(text[:j]).double().softmax(-1)[v]) for j, v in enumerate(text))


TEXTS = list(itertools.product(range(4), repeat=3))


def test_a_uniform_code_has_the_law_of_the_model():
    """Every code of a fine grid: a text is drawn by as many as it is probable, but for its ends."""
    num = 1 << 13
    seen = Counter(draw([(i + 0.5) / num for i in range(num)], 3))
    for text in TEXTS:
        assert abs(seen[text] - num * probability(text)) < 1 + 1e-4, text
    assert any(probability(text) == 0 for text in TEXTS)


@pytest.mark.parametrize("n", [1, 2, 7, 16, 61])
def test_samples_are_spread(n):
    """Of n samples those before any text are as many as expected, to less than one; and no
    choice of a seed for the angle makes a sample's own law another one."""
    first, books = Counter(), 200
    for seed in range(books):
        book = CodeBook(n=n, seed=seed)
        drawn = draw([book.code(i) for i in range(n)], 3)
        seen = Counter(drawn)
        below, expected = 0, 0.0
        for text in TEXTS:
            below, expected = below + seen[text], expected + n * probability(text)
            assert abs(below - expected) < 1 + 1e-6, (seed, text)
        first[drawn[seed % n]] += 1
    likely = [text for text in TEXTS if books * probability(text) > 5]
    chi = sum((first[t] - books * probability(t)) ** 2 / (books * probability(t)) for t in likely)
    assert len(likely) > 8
    assert chi < chi2.isf(1e-6, len(likely))


def test_independent_samples_are_not():
    """The same count catches them."""
    generator = torch.Generator().manual_seed(0)
    drawn = draw(torch.rand(61, generator=generator).tolist(), 3)
    seen, off, below, expected = Counter(drawn), 0.0, 0, 0.0
    for text in TEXTS:
        below, expected = below + seen[text], expected + 61 * probability(text)
        off = max(off, abs(below - expected))
    assert off > 2


def test_codes_of_a_book_are_at_equal_distances():
    for n in (1, 3, 8, 1000):
        book = CodeBook(n=n, seed=5)
        codes = sorted(book.code(i) for i in range(n))
        gaps = [b - a for a, b in itertools.pairwise([*codes, codes[0] + 1])]
        assert gaps == pytest.approx([1 / n] * n, abs=1e-12)
        assert 0 <= codes[0] < codes[-1] + 1e-9 < 1 + 1e-9
    assert CodeBook(n=2, seed=5).code(0) != CodeBook(n=2, seed=6).code(0)


class Coded(Request):
    """One of several samples, with what shapes its law."""

    def __init__(self, number, **shape):
        book = CodeBook(n=9, seed=number // 9 * 100)
        super().__init__(number // 9, None)
        self.code = book.code(number % 9)
        self.noise = torch.randn(LENGTH, VOCAB, generator=torch.Generator().manual_seed(number))
        self.params = SamplingParams(
            max_tokens=LENGTH, seed=book.seed + number % 9, extra_args=book.extra_args, **shape
        )

    def shaped(self, logits):
        """As vLLM's first runner has them when it calls what is invariant to argmax."""
        scaled = logits / self.params.temperature
        least = scaled.amax() + math.log(self.params.min_p or 1e-30)
        return scaled.masked_fill(scaled < least, -math.inf)

    def expected(self):
        """With a code and laws of unlimited precision; when it is spent, what the sampler draws."""
        code, left, tokens = Fraction(self.code), Fraction(1), []
        for j in range(LENGTH):
            if left < NOT_SPENT:
                tokens.append(None)
                continue
            scaled = self.shaped(self.logits[j]).double()
            ordered, order = scaled.sort(descending=True, stable=True)
            if self.params.top_k > 0:
                ordered[self.params.top_k :] = -math.inf
            probs = ordered.softmax(-1)
            probs[(probs.cumsum(-1) - probs) >= self.params.top_p] = 0
            row = torch.zeros(VOCAB, dtype=torch.float64).scatter(0, order, probs)
            weights = [Fraction(weight) for weight in row.tolist()]
            point, before = code * sum(weights), Fraction(0)
            for token, weight in enumerate(weights):  # noqa: B007
                if point < before + weight:
                    break
                before += weight
            code, left = (point - before) / weight, left * weight / sum(weights)
            tokens.append(token)
        return tokens


SHAPES = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.4, "min_p": 0.05},
    {"top_k": 3},
    {"top_p": 0.8},
    {"temperature": 0.9, "top_k": 6, "top_p": 0.9, "min_p": 0.02},
]


def tempered(requests):
    """The first runner's hook, given what that runner has made of the logits by then."""

    class Hook(v1.Arithmetic):
        def apply(self, logits):
            for index, row in zip(self._served.indices.tolist(), self._served.owners, strict=True):
                (request,) = [r for r in requests if r.drawn is row.drawn]
                logits[index] = request.shaped(logits[index])
            return super().apply(logits)

    return Hook


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("run", [run_v1, run_v2])
def test_both_runners_decode_what_the_codes_say(run, torn):
    """Beside requests that ask for nothing; those that are preempted go on with their codes."""
    requests = [Coded(i, **SHAPES[i % len(SHAPES)]) for i in range(72)]
    others = [Request(100 + i, None) for i in range(20)]
    both = [r for pair in itertools.zip_longest(requests, others) for r in pair if r is not None]
    hook = tempered(requests) if run is run_v1 else v2.Arithmetic
    run([hook], both, disturb=torn)
    for request in others:
        assert request.drawn == request.expected()
    by_code = 0
    for request in requests:
        expected = request.expected()
        for j, (token, code) in enumerate(zip(request.drawn, expected, strict=False)):
            logits = request.logits[j]
            if run is run_v1:
                logits = request.shaped(logits)
            own = int((logits + request.noise[j]).argmax())
            assert token == (own if code is None else code)
            by_code += code is not None
    assert by_code > 200
    assert any(None in request.expected()[: len(request.drawn)] for request in requests)


def test_a_step_that_is_done_twice_repeats_itself():
    codes = Codes.send([ArithmeticRequest(0.3, 1.0, 0, 1.0, 0.0)], 4, CPU, tempered=True)
    memory = torch.full((1, *STATE), -math.inf, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.int64)

    def step(drawn, logits):
        made = logits[None].clone()
        codes.choose(made, zero, zero, zero + drawn, memory)
        return made

    for part in range(3):  # of a prompt: whatever its logits, nothing is drawn
        step(0, torch.randn(4, generator=torch.Generator().manual_seed(part)))
    alone = draw([0.3], 2)[0]
    assert step(0, law(())).argmax() == alone[0]
    for _ in range(3):
        again = step(1, law(alone[:1]))
    assert again.argmax() == alone[1]


@pytest.mark.parametrize("code", [0.0, 1 - 2**-53])
def test_the_ends_of_the_circle_are_possible_tokens(code):
    for length in (1, 2, 3):
        (text,) = draw([code], length)
        assert probability(text) > 0


def params(**changes):
    book = {"rsalign_arithmetic_n": 8, "rsalign_arithmetic_seed": 3}
    return SamplingParams(**{"n": 8, "seed": 3, "extra_args": book} | changes)


def test_requests():
    assert read_arithmetic_request(SamplingParams()) is None
    assert read_arithmetic_request(SamplingParams(extra_args={"other": 1})) is None
    book = CodeBook(n=8, seed=3)
    assert params().extra_args == book.extra_args
    assert read_arithmetic_request(params(top_k=5)).code == book.code(0)
    child = read_arithmetic_request(params(n=1, seed=7, temperature=0.5, top_p=0.9))
    assert child == ArithmeticRequest(book.code(4), 0.5, 0, 0.9, 0.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": None}, "give seed=3 and n=8"),
        ({"seed": 4}, "have the seeds 3 to 10"),
        ({"seed": 2, "n": 1}, "have the seeds 3 to 10"),
        ({"n": 9}, "have the seeds 3 to 10"),
        ({"temperature": 0, "n": 1}, "greedy samples are all the same"),
        ({"top_k": 1}, "top_k=1 .* greedy samples are all the same"),
        ({"min_p": 1.0}, "min_p=1.0 .* greedy samples are all the same"),
        ({"logprobs": 0}, "leave logprobs out"),
        ({"extra_args": {"rsalign_arithmetic_n": 8}}, "only one of"),
        ({"extra_args": {"rsalign_arithmetic_seed": 8}}, "only one of"),
        (
            {"extra_args": {"rsalign_arithmetic_n": 0, "rsalign_arithmetic_seed": 3}},
            "a whole number between 1 and",
        ),
        (
            {"extra_args": {"rsalign_arithmetic_n": "8", "rsalign_arithmetic_seed": 3}},
            "must be of type int",
        ),
        ({"extra_args": {"rsalign_arithmetics": 8}}, "there are only"),
    ],
    ids=str,
)
def test_what_is_refused(changes, says):
    for hook in (v1.Arithmetic, v2.Arithmetic):
        with pytest.raises(ConfigError, match=says):
            hook.validate_params(params(**changes))
