"""Segments of a model that has no spare token, and ids that its tokenizer does not know."""

import asyncio

import pytest
from exact import LEAST, REST, answers, check_draws
from used_up import VOCAB, WORDS, save_model

from rsalign import (
    Aligner,
    Cards,
    ConfigError,
    FixedSize,
    Key,
    Line,
    QAlign,
    Sampling,
    Stop,
)
from rsalign.cli.main import main
from rsalign.core.tasks import concurrently
from rsalign.policies.vllm import VllmPolicy
from rsalign.segments import Entropy, Punctuation

pytestmark = pytest.mark.engine

EOS, PROMPT, LENGTH = 0, (1, 4, 6), 4
BOUNDARIES = [Entropy(1.6, 1), Punctuation(".=", 1.4, 1), Punctuation("12.", 0.0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("used_up"))


@pytest.fixture(scope="module")
def used_up(folder):
    policy = VllmPolicy.start(folder, kv_cache_memory_bytes=64 << 20)
    yield policy
    policy.close()


def draw_all(draws):
    async def main():
        return await concurrently(draws)

    return asyncio.run(main())


async def answer(policy, boundary, key, draw="extend"):
    """Segments of one answer."""
    tokens, segments = (), []
    while not segments or segments[-1].stop is Stop.BOUNDARY:
        segment = await getattr(policy, draw)(
            PROMPT + tokens,
            max_new_tokens=LENGTH - len(tokens),
            key=key.child(len(segments)),
            boundary=boundary,
        )
        segments.append(segment)
        tokens += segment.tokens
    return segments


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_the_law_of_answers_in_segments_is_exact(used_up, folder, boundary):
    """Though the token that ends segments is drawn by the model, too: everywhere, and often."""
    law = answers(PROMPT, LENGTH, folder)
    assert law[REST] < 1000 * LEAST
    drawn = draw_all(answer(used_up, boundary, Key(7, (i,))) for i in range(3000))
    wholes = [sum((segment.tokens for segment in segments), ()) for segments in drawn]
    assert check_draws(wholes, law)
    lasts = [segments[-1] for segments in drawn]
    assert all((last.tokens[-1] == EOS) == (last.stop is Stop.EOS) for last in lasts)
    assert sum(last.stop is Stop.EOS for last in lasts) > 300
    assert sum(len(segments) > 1 for segments in drawn) > 300
    for segments in drawn[:10]:
        told = sum((segment.log_probs for segment in segments), ())
        tokens = sum((segment.tokens for segment in segments), ())
        assert told == pytest.approx(asyncio.run(used_up.log_probs(PROMPT, tokens)), abs=1e-5)


@pytest.mark.parametrize("draw", ["extend", "measure"])
def test_what_ended_is_told_by_the_entropies(used_up, draw):
    boundary = BOUNDARIES[0]
    drawn = draw_all(answer(used_up, boundary, Key(8, (i,)), draw) for i in range(60))
    wholes = draw_all(
        used_up.measure(PROMPT, max_new_tokens=LENGTH, key=Key(8, (i, 0))) for i in range(60)
    )
    stops = set()
    for (first, *_), whole in zip(drawn, wholes, strict=True):
        entropies = whole.certainty.entropies
        size = len(first.tokens)
        ends = [j for j in range(1, len(whole.tokens)) if boundary.ends_before(j, entropies[j])]
        assert first.tokens == whole.tokens[: min(ends, default=len(whole.tokens))]
        if first.stop is Stop.BOUNDARY:
            assert first.boundary_entropy == pytest.approx(entropies[size], abs=1e-5)
        if draw == "measure":
            assert first.certainty.entropies == pytest.approx(entropies[:size], abs=1e-5)
        stops.add(first.stop)
    assert stops >= {Stop.BOUNDARY, Stop.EOS}


def test_the_stop_tokens_of_a_caller_stay_what_they_are(used_up):
    """One of them ends segments where EOS ends nothing; without any, an id without a text does."""
    law = Sampling(ignore_eos=True, stop_token_ids=(5,))
    stopping, endless = used_up.with_sampling(law), used_up.with_sampling(Sampling(ignore_eos=True))
    drawn = draw_all(answer(stopping, BOUNDARIES[0], Key(9, (i,))) for i in range(60))
    wholes = draw_all(
        stopping.extend(PROMPT, max_new_tokens=LENGTH, key=Key(9, (i, 0))) for i in range(60)
    )
    for segments, whole in zip(drawn, wholes, strict=True):
        assert whole.tokens[: len(segments[0].tokens)] == segments[0].tokens
        assert (segments[-1].tokens[-1] == 5) == (segments[-1].stop is Stop.STOP)
    assert {segments[-1].stop for segments in drawn} == {Stop.STOP, Stop.LENGTH}
    assert "'yes'" not in stopping.check_boundary(BOUNDARIES[0])
    assert "by '2' (id 5)" in stopping.check_boundary(BOUNDARIES[0])
    assert f"(id {VOCAB - 1}), which no response needs" in endless.check_boundary(BOUNDARIES[0])


def test_which_token_ends_segments_is_told_and_refused_at_the_start(used_up, monkeypatch):
    assert used_up.check_boundary(FixedSize(3)) == "by their size"
    assert used_up.check_boundary(Entropy(1.0)).startswith("by '</s>' (id 0), told from")
    monkeypatch.setattr("rsalign.policies.vllm.add_hooks", lambda config: None)
    bare = VllmPolicy.start(used_up.engine.vllm_config.model_config.model, max_model_len=64)
    try:
        marks = Punctuation("12.", 0.0, 1)
        assert bare.check_boundary(marks) == "by a cut after they were drawn"
        for segmenter in (Entropy(1.0), Punctuation(min_entropy=0.5)):
            strategy = Cards(segmenter=segmenter, threshold=Line(target=0.0), max_tokens=8)
            with pytest.raises(ConfigError, match="honoured inside the engine"):
                Aligner(bare, len_reward, strategy)
        cut = draw_all(answer(bare, marks, Key(3, (i,))) for i in range(60))
        inside = draw_all(answer(used_up, marks, Key(3, (i,))) for i in range(60))
        assert [one[0] for one in cut] == [one[0] for one in inside]
        assert all(not segments[0].beyond for segments in inside)
        assert any(segments[0].beyond for segments in cut)
    finally:
        bare.close()


def len_reward(prompt, response):
    return float(len(response))


@pytest.mark.parametrize(
    "strategy",
    [
        Cards(segmenter=FixedSize(2), threshold=Line(target=3.0), max_tokens=8, max_tries=4),
        Cards(segmenter=Entropy(1.0, 1), threshold=Line(target=3.0), max_tokens=8, max_tries=4),
        QAlign(steps=6, beta=1.0, max_tokens=8),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_ids_without_a_text_do_no_harm(used_up, strategy):
    """The model draws them as vLLM does; they have no text, and may be part of a kept prefix."""
    biased = Sampling(logit_bias=((VOCAB - 1, 2.0),))
    if isinstance(strategy, QAlign) or strategy.segmenter == FixedSize(2):
        policy = used_up.with_sampling(biased)
    else:
        policy = used_up
    with Aligner(policy, len_reward, strategy) as aligner:
        outputs = aligner.generate(["yes 1 ="] * 12, use_tqdm=False)
    answered = [output.outputs[0] for output in outputs]
    ids = [token for one in answered for token in one.token_ids]
    assert max(ids) >= len(WORDS)
    for one in answered:
        known = [WORDS[t] for t in one.token_ids if 0 < t < len(WORDS)]
        assert one.text.split() == known
    with pytest.raises(ConfigError, match=f"token id {VOCAB} is not in the vocabulary of {VOCAB}"):
        asyncio.run(used_up.extend((1, VOCAB), max_new_tokens=2, key=Key(0)))


def test_the_doctor_tells_it_before_an_engine_is_started(folder, capsys):
    assert main(["doctor", folder]) == 0
    report = capsys.readouterr().out
    assert f"{VOCAB} token ids, of which 2 have no text" in report
    assert "segments end by '</s>' (id 0), told from the response's own" in report
    assert "segments behind a server: no token is free" in report
    assert "a response ends by </s> (0)" in report
