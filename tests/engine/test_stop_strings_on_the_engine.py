"""Stop strings that begin in one segment and end in another, on the real engine."""

import asyncio

import pytest

from rsalign import Aligner, Cards, Entropy, FixedSize, Key, Plain, Run, Sampling, Stop
from rsalign.segments.acceptance import HardAcceptance
from rsalign.segments.thresholds import Constant

pytestmark = pytest.mark.engine

GREEDY = Sampling(temperature=0)


class Zero:
    async def score(self, prompt, response):
        return 0.0


def always(segmenter):
    return Cards(
        segmenter=segmenter,
        threshold=Constant(value=-1.0),
        acceptance=HardAcceptance(),
        max_tokens=96,
    )


def answer(strategy, policy, prompt):
    return asyncio.run(strategy.sample(prompt, Run(policy, Zero(), Key(0)))).response


@pytest.mark.parametrize("segmenter", [FixedSize(1), FixedSize(2), FixedSize(7), Entropy(1.0)])
def test_segments_end_where_the_whole_does(policy, ask, segmenter):
    """At any piece of the greedy answer, which begins and ends within tokens."""
    prompt, ends = ask(2), set()
    whole = answer(Plain(max_tokens=96), policy.with_sampling(GREEDY), prompt).text
    for start in range(1, 60, 7):
        stop = whole[start : start + 9]
        stopping = policy.with_sampling(Sampling(temperature=0, stop=("never", stop)))
        plain = answer(Plain(max_tokens=96), stopping, prompt)
        assert (plain.stop, plain.stop_reason) == (Stop.STOP, stop)
        assert plain.text == whole[: whole.index(stop)]
        assert answer(always(segmenter), stopping, prompt) == plain
        ends.add(len(plain.tokens))
    assert len(ends) > 5


def test_the_earliest_of_several_ends_it(policy, ask):
    """The engine finds the second within a segment, when the first was complete already."""
    prompt = ask(2)
    whole = answer(Plain(max_tokens=96), policy.with_sampling(GREEDY), prompt)
    seam = len(policy.text(whole.tokens[:12]))
    stops = (whole.text[seam + 8 : seam + 12], whole.text[seam - 3 : seam + 3])
    stopping = policy.with_sampling(Sampling(temperature=0, stop=stops))
    plain = answer(Plain(max_tokens=96), stopping, prompt)
    assert plain.stop_reason == stops[1]
    assert answer(always(FixedSize(12)), stopping, prompt) == plain


def test_what_is_streamed_stops_there_too(policy, ask):
    """Where the policy was given the stop string, and not the request."""
    question = ask(2).messages[0].content
    messages = {"messages": [{"role": "user", "content": question}]}
    whole = answer(Plain(max_tokens=96), policy.with_sampling(GREEDY), ask(2)).text
    stop = whole[20:30]
    stopping = policy.with_sampling(Sampling(temperature=0, stop=(stop,)))

    async def main():
        async with Aligner(stopping, Zero(), always(FixedSize(2))) as aligner:
            return [event async for event in aligner.astream(messages)]

    *texts, result = asyncio.run(main())
    assert "".join(event.text for event in texts) == whole[: whole.index(stop)]
    assert len(texts) > 2
    assert result.output.outputs[0].stop_reason == stop
