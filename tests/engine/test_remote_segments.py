"""Segments from vLLM's own server: cut after the fact, or ended by the hook within it."""

import asyncio
import gc

import pytest
from server import front

from rsalign import (
    Aligner,
    Cards,
    ConfigError,
    Entropy,
    FixedSize,
    Key,
    LowConfidence,
    Punctuation,
    Sampling,
    Stop,
    align,
)
from rsalign.core.tasks import concurrently
from rsalign.engines.answers import ServedModel
from rsalign.policies.remote_hook import choose_stop_token
from rsalign.policies.vllm_server import VllmServerPolicy
from rsalign.segments.acceptance import HardAcceptance
from rsalign.segments.thresholds import Constant, Line

# what the proxies of these tests leave open when a loop ends is closed by the garbage collector
pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

MARKS = [
    Punctuation("=", min_entropy=0),
    Punctuation("0123456789", min_entropy=0, min_tokens=1, max_tokens=12),
    Punctuation("\n", min_entropy=0, min_tokens=2, max_tokens=30),
]
UNCERTAIN = [
    Entropy(1.0),
    Entropy(0.05, min_tokens=1, max_tokens=9),
    LowConfidence(window=4, below=-0.3),
    Punctuation("0123456789", min_entropy=0.02, min_tokens=2, max_tokens=12),
]
LAWS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0.7, top_p=0.9),
    Sampling(stop=("So", "Answer")),
]


@pytest.fixture(autouse=True)
def _collected():
    """Within the test that left them, where the warning is expected."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def hooked(servers):
    """The same policy, which knows of the hook."""
    policy = VllmServerPolicy.connect(servers[0], processed_log_probs=True, segment_end=True)
    yield policy
    policy.close()


def draw(policy, ask, boundary, *, max_new_tokens=100):
    async def main():
        return await concurrently(
            policy.extend(
                ask(i).tokens, max_new_tokens=max_new_tokens, key=Key(1, (i,)), boundary=boundary
            )
            for i in range(12)
        )

    return asyncio.run(main())


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("boundary", MARKS, ids=str)
def test_a_cut_segment_is_that_of_an_own_engine(served, policy, ask, boundary, law):
    """Key for key; and beyond it lies the rest of what was drawn at once."""
    served, policy = served.with_sampling(law), policy.with_sampling(law)
    segments = draw(served, ask, boundary)
    assert segments == draw(policy, ask, boundary)
    wholes = draw(policy, ask, FixedSize(boundary.max_tokens))
    for segment, whole in zip(segments, wholes, strict=True):
        assert segment.num_drawn == len(whole.tokens)
        if segment.beyond is None:
            assert segment == whole
        else:
            assert segment.stop is Stop.BOUNDARY
            assert segment.join(segment.beyond) == whole
    assert any(segment.beyond for segment in segments)


def test_a_cut_takes_any_law(served, ask):
    """Also one that hides the model's entropies."""
    biased = served.with_sampling(Sampling(logit_bias=((2, -100.0),), repetition_penalty=1.1))
    for segment in draw(biased, ask, MARKS[0], max_new_tokens=20):
        texts = [biased.text((token,)) for token in segment.tokens]
        assert not any("=" in text for text in texts[3:-1])
        assert segment.stop is Stop.LENGTH or "=" in texts[-1]


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("boundary", [*UNCERTAIN, MARKS[1]], ids=str)
def test_the_hook_ends_segments_in_a_server(hooked, policy, ask, boundary, law):
    hooked, policy = hooked.with_sampling(law), policy.with_sampling(law)
    segments = draw(hooked, ask, boundary)
    assert segments == draw(policy, ask, boundary)
    assert all(segment.beyond is None for segment in segments)
    assert hooked.sentinel not in {token for segment in segments for token in segment.tokens}
    assert any(segment.stop is Stop.BOUNDARY for segment in segments)
    assert all(len(segment.log_probs) == len(segment.tokens) for segment in segments)


def test_without_a_boundary_nothing_changes(hooked, served, ask):
    assert draw(hooked, ask, None) == draw(served, ask, None)
    assert draw(hooked, ask, FixedSize(7)) == draw(served, ask, FixedSize(7))


def test_what_was_drawn_beyond_is_used(served, policy, ask):
    """Answers of many segments from fewer requests, whose tokens all count, once."""
    strategy = Cards(
        segmenter=MARKS[1],
        threshold=Constant(value=-99),
        acceptance=HardAcceptance(),
        max_tokens=96,
    )

    class Zero:
        async def score(self, prompt, response):
            return 0.0

    async def main():
        for i in range(4):
            result = await align(ask(i), strategy, policy=served, reward=Zero(), seed=i)
            answer, usage = result.candidate.response, result.usage
            assert answer.complete
            assert usage.policy_tokens_drawn == len(answer.tokens)
            assert usage.policy_requests < result.trace.notes["num_segments"] / 2
            likely = await policy.log_probs(ask(i).tokens, answer.tokens)
            assert answer.log_probs == pytest.approx(likely, abs=1e-5)
            ends = [policy.text(p.candidate.tokens)[-1] for p in result.trace.proposals[:-1]]
            assert all(end.isdigit() for end in ends)

    asyncio.run(main())


def test_cards_from_addresses_alone(servers, ask):
    strategy = Cards(segmenter=Entropy(1.0), threshold=Line(target=2.0), max_tokens=96)
    conversation = [{"role": "user", "content": ask(3).messages[0].content}]
    with Aligner(*servers, strategy, engine_args={"segment_end": True}) as aligner:
        (output,) = aligner.chat(conversation)
    assert output.alignment.trace.notes["num_segments"] > 2
    with pytest.raises(ConfigError, match=r"--logits-processors .* segment_end=True"):
        Aligner(*servers, strategy)


def test_what_cannot_be_honoured_is_refused(served, hooked, ask):
    for policy, law, says in (
        (served, Sampling(), "known in the engine only: start the server with"),
        (hooked, Sampling(logit_bias=((5, 1.0),)), "model's own entropies"),
        (hooked, Sampling(allowed_token_ids=(20, 21)), "model's own entropies"),
        (hooked, Sampling(repetition_penalty=1.1), "model's own entropies"),
        (hooked, Sampling(stop_token_ids=(hooked.sentinel,)), f"stop token {hooked.sentinel}"),
    ):
        for boundary in UNCERTAIN:
            with pytest.raises(ConfigError, match=says):
                draw(policy.with_sampling(law), ask, boundary)


def test_a_server_without_the_hook(servers):
    """It would take the arguments and ignore them: it is asked before it is trusted."""

    async def main():
        async def complete(number, writer):
            probed = number % 3 == 0  # each time it is first asked for its models and version
            if probed:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: 2\r\n\r\n{}")
                writer.write_eof()
            return probed

        async with front(servers[0], complete) as (one, seen):
            with pytest.raises(ConfigError, match=rf"segment_end=True, but {one} has no such hook"):
                await asyncio.to_thread(VllmServerPolicy.connect, one, segment_end=True)
            assert len(seen) == 3
            with pytest.raises(ConfigError, match="no such hook"):
                await asyncio.to_thread(
                    VllmServerPolicy.connect, [servers[0], one], segment_end=True
                )

    asyncio.run(main())


def test_a_tokenizer_without_a_spare_token():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1})))
    with pytest.raises(ConfigError, match="has no token that responses do not need"):
        choose_stop_token(bare, ServedModel("bare", "/no/such/folder", None))
