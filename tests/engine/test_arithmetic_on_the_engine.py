"""Arithmetic sampling on the real engine: each sample has the model's law, and all are spread."""

import asyncio

import pytest
from exact import answers, check_draws, next_probs, shaped
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from rsalign.core.tasks import concurrently
from rsalign.hooks.arithmetic.request import CodeBook

pytestmark = pytest.mark.engine


def drawn(policy, prompt, asked):
    """Tokens of all samples of each request."""

    async def one(params):
        params.output_kind = RequestOutputKind.FINAL_ONLY
        output = await policy.engine.generate(prompt.tokens, params)
        return [tuple(each.token_ids) for each in output.outputs]

    return asyncio.run(_all(map(one, asked)))


async def _all(calls):
    return await concurrently(calls, limit=64)


def samples(n, seed, **changes):
    return SamplingParams(n=n, seed=seed, **changes, extra_args=CodeBook(n=n, seed=seed).extra_args)


class Order:
    """How probable it is that a response comes before the end of a text, in the order of ids."""

    def __init__(self, prompt, **shape):
        self._prompt, self._shape, self._ends = prompt.tokens, shape, {}

    def _law(self, text):
        if text not in self._ends:
            (row,) = next_probs([list(self._prompt + text)])
            if self._shape:
                (row,) = shaped(row[None], **self._shape)
            self._ends[text] = (row, row.cumsum(-1))
        return self._ends[text]

    def upto(self, text):
        total, left = 0.0, 1.0
        for j, token in enumerate(text):
            law, ends = self._law(text[:j])
            last = j == len(text) - 1
            total += left * float(ends[token] - (0 if last else law[token]))
            left *= float(law[token])
        return total


@pytest.mark.parametrize("shape", [{}, {"temperature": 1.6, "top_k": 30}], ids=str)
def test_samples_of_a_request_are_spread(policy, ask, shape):
    """Of n, those that come before a text are as many as expected, to less than one."""
    n, order = 48, Order(ask(0), **shape)
    requests = [samples(n, 1000 * i, max_tokens=3, **shape) for i in range(12)]
    apart = [SamplingParams(n=n, seed=1000 * i, max_tokens=3, **shape) for i in range(12)]
    off = {}
    for name, asked in (("spread", requests), ("apart", apart)):
        off[name] = [
            max(abs(sum(each <= text for each in texts) - n * order.upto(text)) for text in texts)
            for texts in drawn(policy, ask(0), asked)
        ]
    assert max(off["spread"]) < 1.01
    assert min(off["apart"]) > 1.5


def test_each_sample_has_the_law_of_the_model(policy, ask):
    """Chi-square, level 1e-6, of samples that are one of eight each, of books of their own."""
    law = answers(ask(1).tokens, 2)
    requests = []
    for i in range(1500):
        book = CodeBook(n=8, seed=100 * i)
        requests.append(
            SamplingParams(max_tokens=2, seed=book.seed + i % 8, extra_args=book.extra_args)
        )
    texts = [text for (text,) in drawn(policy, ask(1), requests)]
    assert check_draws(texts, law)
    # an angle that is not drawn anew for each book would be told
    (one_book,) = drawn(policy, ask(1), [samples(8, 0, max_tokens=2)])
    assert not check_draws(one_book * 180, law)


def test_long_samples_repeat_and_leave_others_alone(policy, ask):
    """Past the end of their codes, beside requests that ask for nothing."""
    spread, plain = samples(8, 5, max_tokens=80), SamplingParams(n=4, seed=9, max_tokens=80)
    first, beside = drawn(policy, ask(2), [spread, plain])
    (again,) = drawn(policy, ask(2), [spread])
    (alone,) = drawn(policy, ask(2), [plain])
    assert (again, alone) == (first, beside)
    assert len(set(first)) > 4
    one = SamplingParams(seed=7, max_tokens=80, extra_args=CodeBook(n=8, seed=5).extra_args)
    assert drawn(policy, ask(2), [one]) == [[first[2]]]
