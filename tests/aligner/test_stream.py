"""Text comes as soon as it is certain, and all of it is the answer."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsalign import Aligner, BestOf, ConfigError, FixedSize, Plain, Sampling
from rsalign.aligner.stream import ResultEvent, StreamedText, TextEvent
from rsalign.core.text.response_text import Redecoding
from rsalign.embedded.problems import problem
from rsalign.segments.thresholds import Constant
from rsalign.strategies.cards import Cards
from rsalign.testing import ToyPolicy, ToyReward

CARDS = Cards(segmenter=FixedSize(3), threshold=Constant(value=0.0), max_tokens=24)


async def events_of(aligner, prompt, **given):
    return [event async for event in aligner.astream(prompt, **given)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("strategy", [CARDS, BestOf(n=3, inner=Plain(max_tokens=12))])
def test_the_pieces_are_the_answer(strategy, seed):
    with Aligner(ToyPolicy(8), ToyReward(), strategy, seed=seed) as aligner:
        *texts, last = asyncio.run(events_of(aligner, "1 2"))
        (whole,) = aligner.generate("1 2")
    assert isinstance(last, ResultEvent)
    assert last.output.outputs == whole.outputs
    assert all(isinstance(event, TextEvent) and event.text for event in texts)
    assert "".join(event.text for event in texts) == whole.outputs[0].text


def test_segments_come_one_by_one():
    with Aligner(ToyPolicy(40), ToyReward(), CARDS) as aligner:
        *texts, _ = asyncio.run(events_of(aligner, "1"))
    assert len(texts) > 3


@given(st.text(max_size=20), st.lists(st.integers(1, 3), max_size=30))
def test_bytes_split_over_tokens(text, sizes):
    """A tokenizer of single bytes: any character may be cut anywhere."""
    pieces = StreamedText(Redecoding(lambda tokens: bytes(tokens).decode(errors="replace")), ())
    data, sent = tuple(text.encode()), ""
    for size in [*sizes, len(data)]:
        sent += pieces.add(data[:size])
        assert text.startswith(sent.rstrip("\N{REPLACEMENT CHARACTER}"))
        data = data[size:]
    assert sent + pieces.finish(text) == text


@given(st.text("ab", max_size=12), st.sampled_from(["ab", "aab", "b", "bba"]))
def test_a_stop_string_never_comes_out(text, stop):
    pieces = StreamedText(Redecoding(lambda tokens: "".join(map(chr, tokens))), (stop,))
    sent, grown = "", ""
    for character in text:
        grown += character
        sent += pieces.add((ord(character),))
        if grown.endswith(stop):
            break
    final = grown[: grown.rfind(stop)] if stop in grown else grown
    assert sent + pieces.finish(final) == final


def test_leaving_early_cancels():
    open_calls, cancelled = [], []

    class Slow(ToyPolicy):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            if len(prefix) > 3:
                open_calls.append(prefix)
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(prefix)
                    raise
            return await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
            )

    async def main():
        with Aligner(Slow(40), ToyReward(), CARDS) as aligner:
            events = aligner.astream("1")
            assert isinstance(await anext(events), TextEvent)
            while not open_calls:
                await asyncio.sleep(0)
            await events.aclose()

    asyncio.run(main())
    assert len(cancelled) == 1


def test_what_cannot_be_streamed_is_refused():
    class Tunable(ToyPolicy):
        def with_sampling(self, sampling):
            return self

    with Aligner(Tunable(4), ToyReward(), CARDS) as aligner:
        with pytest.raises(ConfigError, match="the prompt is empty"):
            asyncio.run(events_of(aligner, ""))
        *_, last = asyncio.run(events_of(aligner, "1", sampling_params=Sampling(stop=("2",))))
        assert "2" not in last.output.outputs[0].text or last.output.outputs[0].stop_reason is None


@pytest.mark.engine
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_on_the_engine(aligner, seed):
    """With a byte-level tokenizer, whose spaces are joined to words."""
    prompt = {"messages": [{"role": "user", "content": problem("heldout", seed).question}]}
    cards = Cards(segmenter=FixedSize(5), threshold=Constant(value=-1.0), max_tokens=96)
    *texts, last = asyncio.run(events_of(aligner, prompt, strategy=cards, seed=seed))
    assert "".join(event.text for event in texts) == last.output.outputs[0].text
    assert len(texts) > 1
