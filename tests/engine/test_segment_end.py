"""The segment end on the real engine: where it ends, and that nothing else changes."""

import asyncio
import functools

import pytest
import torch
from exact import LEAST, REST, answers, check_draws, language_model

from rsalign import ConfigError, Key, Message, Sampling, Stop
from rsalign.core.segment_ends import place_boundary
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY
from rsalign.embedded.problems import problem
from rsalign.hooks.loading import hook_path
from rsalign.hooks.shared.arguments import hides_the_model
from rsalign.policies.vllm import VllmPolicy
from rsalign.segments import Entropy, FixedSize, LowConfidence, Punctuation

pytestmark = pytest.mark.engine

BOUNDARIES = [
    Entropy(1.0),
    Entropy(0.5, min_tokens=9),
    Entropy(0.05, min_tokens=1, max_tokens=9),
    Punctuation("=", min_entropy=0.0),
    Punctuation("0123456789", min_entropy=0.02, min_tokens=2, max_tokens=12),
    LowConfidence(window=4, below=-0.3),
]


@functools.cache
def prompt(policy, index):
    return policy.encode_chat((Message("user", problem("heldout", index).question),))


@torch.inference_mode()
def entropies(prefix, tokens):
    """Of the law before each token and after the last, nats, by transformers in float32."""
    logits = language_model()(torch.tensor([prefix + tokens])).logits[0, len(prefix) - 1 :]
    law = logits.log_softmax(-1)
    return (-(law.exp() * law).sum(-1)).tolist()


def first_segment(policy, boundary, prefix, whole):
    """Length and stop of the first segment, by the segmenter's own words."""
    entropy, boundary = entropies(prefix, whole.tokens), place_boundary(boundary, len(prefix))
    for j, token in enumerate(whole.tokens):
        if j and boundary.ends_before(j, entropy[j]):
            return j, Stop.BOUNDARY
        if j + 1 == len(whole.tokens):
            return j + 1, whole.stop
        text = policy.text((token,))
        if j + 1 == boundary.max_tokens or boundary.ends_after(j + 1, entropy[j], text):
            return j + 1, Stop.BOUNDARY
    raise AssertionError("a response has at least one token")


def draw(policy, indices, *, boundary=None, max_new_tokens=100):
    async def main():
        return await concurrently(
            policy.extend(
                prompt(policy, i),
                max_new_tokens=max_new_tokens,
                key=Key(1, (i,)),
                boundary=boundary,
            )
            for i in indices
        )

    return asyncio.run(main())


async def whole_response(policy, prefix, boundary, key, max_tokens):
    """A response drawn segment by segment."""
    tokens, log_probs = (), ()
    for number in range(max_tokens):
        segment = await policy.extend(
            prefix + tokens,
            max_new_tokens=max_tokens - len(tokens),
            key=key.child(number),
            boundary=boundary,
        )
        tokens, log_probs = tokens + segment.tokens, log_probs + segment.log_probs
        if segment.stop is not Stop.BOUNDARY:
            return tokens, log_probs, segment.stop
    raise AssertionError("a response of too many segments")


def hooks(policy):
    """Import paths of what an engine has, for its model runner, and of `SegmentEnd` among them."""
    config = policy.engine.vllm_config
    paths = [hook_path(config, each) for each in ("TokenStatistics", "SegmentEnd", "Arithmetic")]
    return paths, paths[1]


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_a_segment_ends_where_the_entropies_say(policy, boundary):
    """And is the beginning of what the same key draws at once: the sentinel changes nothing."""
    indices, ends = range(24), set()
    segments, wholes = draw(policy, indices, boundary=boundary), draw(policy, indices)
    for i, segment, whole in zip(indices, segments, wholes, strict=True):
        length, stop = first_segment(policy, boundary, prompt(policy, i), whole)
        assert (segment.tokens, segment.stop) == (whole.tokens[:length], stop)
        assert segment.log_probs == pytest.approx(whole.log_probs[:length], abs=1e-6)
        assert segment.stop_reason is None
        if stop is Stop.BOUNDARY and isinstance(boundary, Entropy):
            after = entropies(prompt(policy, i), segment.tokens)[-1]
            assert segment.boundary_entropy == pytest.approx(after, abs=1e-4)
        else:
            assert segment.boundary_entropy is None
        ends.add((length, stop))
    assert any(stop is Stop.BOUNDARY for _, stop in ends)


@pytest.mark.parametrize("boundary", [Entropy(0.03, 1), Punctuation("0123456789", 0.0, 1)], ids=str)
def test_segments_have_the_law_of_the_whole(policy, boundary):
    """Keys differ from segment to segment, so that this is a statement about the law alone."""
    prefix = prompt(policy, 1)
    law = answers(prefix, max_tokens=6)
    assert law[REST] < 300 * LEAST

    async def main():
        return await concurrently(
            whole_response(policy, prefix, boundary, Key(4, (i,)), 6) for i in range(1500)
        )

    drawn = asyncio.run(main())
    assert check_draws([tokens for tokens, _, _ in drawn], law)
    assert {stop for _, _, stop in drawn} == {Stop.LENGTH}
    for tokens, log_probs, _ in drawn[:20]:
        likely = asyncio.run(policy.log_probs(prefix, tokens))
        assert log_probs == pytest.approx(likely, abs=1e-5)


@pytest.mark.parametrize(
    "law",
    [
        Sampling(temperature=0),
        Sampling(temperature=0.3),
        Sampling(temperature=2.0, top_k=5),
        Sampling(top_p=0.8),
        Sampling(min_p=0.1, repetition_penalty=1.1),
        Sampling(stop=("So", "Answer")),
    ],
    ids=str,
)
def test_entropies_are_those_of_the_model_under_any_law(policy, law):
    shaped, boundary = policy.with_sampling(law), Entropy(1.0)
    if hides_the_model(law, hooks(policy)[1]):
        with pytest.raises(ConfigError, match="needs the model's own entropies"):
            draw(shaped, [0], boundary=boundary)
        return
    segments, wholes = draw(shaped, range(12), boundary=boundary), draw(shaped, range(12))
    stops = set()
    for i, (segment, whole) in enumerate(zip(segments, wholes, strict=True)):
        length, stop = first_segment(policy, boundary, prompt(policy, i), whole)
        assert (segment.tokens, segment.stop) == (whole.tokens[:length], stop)
        assert segment.log_probs == pytest.approx(whole.log_probs[:length], abs=1e-6)
        stops.add(stop)
    assert Stop.BOUNDARY in stops


def test_how_a_segment_ended_is_told_apart(policy):
    (whole,) = draw(policy, [0])
    assert whole.stop is Stop.EOS
    never = Entropy(99.0, max_tokens=200)
    assert draw(policy, [0], boundary=never) == [whole]
    (cut,) = draw(policy, [0], boundary=Entropy(99.0, max_tokens=9), max_new_tokens=9)
    assert (len(cut.tokens), cut.stop) == (9, Stop.LENGTH)
    (cut,) = draw(policy, [0], boundary=Entropy(99.0, max_tokens=9))
    assert (len(cut.tokens), cut.stop, cut.boundary_entropy) == (9, Stop.BOUNDARY, None)
    (first,) = draw(policy, [0], boundary=Entropy(1.0))
    size = len(first.tokens)
    assert first.stop is Stop.BOUNDARY
    (capped,) = draw(policy, [0], boundary=Entropy(1.0), max_new_tokens=size)
    assert (capped.tokens, capped.stop) == (first.tokens, Stop.LENGTH)
    (later,) = draw(policy, [0], boundary=Entropy(1.0, min_tokens=size + 1))
    assert len(later.tokens) > size
    token = first.tokens[2]
    stopping = policy.with_sampling(Sampling(stop_token_ids=(token,)))
    (stopped,) = draw(stopping, [0], boundary=Entropy(1.0))
    assert (stopped.stop, stopped.stop_reason) == (Stop.STOP, token)


def test_vllm_s_own_min_tokens_is_respected(policy):
    from vllm import SamplingParams

    (first,) = draw(policy, [0], boundary=Entropy(1.0))
    sentinel = policy._model.sentinels.spare
    extra = {**Entropy(1.0).engine_arguments, "rsalign_sentinel": sentinel}

    def ends(min_tokens):
        params = SamplingParams(
            seed=Key(1, (0,)).seed(),
            max_tokens=100,
            min_tokens=min_tokens,
            stop_token_ids=[sentinel],
            extra_args=extra,
        )
        output = asyncio.run(policy.engine.generate(prompt(policy, 0), params)).outputs[0]
        assert (output.stop_reason, output.token_ids[-1]) == (sentinel, sentinel)
        assert sentinel not in output.token_ids[:-1]
        return len(output.token_ids) - 1

    assert ends(0) == len(first.tokens)
    assert ends(len(first.tokens) + 1) > len(first.tokens)


def test_each_of_several_samples_ends_on_its_own(policy):
    """vLLM's `n`: the children share one object of parameters."""
    from vllm import SamplingParams

    sentinel, prefix = policy._model.sentinels.spare, prompt(policy, 2)
    boundary = Punctuation("0123456789", 0.0, 2)
    params = SamplingParams(
        n=6,
        max_tokens=100,
        temperature=2.0,
        stop_token_ids=[sentinel],
        extra_args={**boundary.engine_arguments, "rsalign_sentinel": sentinel},
    )
    # directly, because our engine gives each draw a request of its own
    outputs = _step_through(policy, prefix, params)
    for output in outputs:
        tokens = tuple(output.token_ids[:-1])
        entropy = entropies(prefix, tokens)
        texts = [policy.text((token,)) for token in tokens]
        ended = [boundary.ends_after(j + 1, entropy[j], text) for j, text in enumerate(texts)]
        assert output.token_ids[-1] == sentinel
        assert ended == [False] * (len(tokens) - 1) + [True]


def _step_through(policy, prefix, params):
    from rsalign.engines.vllm.stepper import STEPPER

    def run():
        engine = policy.engine.vllm_engine
        engine.add_request("several", {"prompt_token_ids": list(prefix)}, params)
        last = {}
        while engine.has_unfinished_requests():
            for output in engine.step():
                last |= {each.index: each for each in output.outputs}
        return list(last.values())

    return STEPPER.call(run)


def test_an_engine_without_the_hook(policy, monkeypatch):
    """It draws the same tokens with the same log-probabilities, and refuses what it cannot do."""
    monkeypatch.setattr("rsalign.policies.vllm.add_hooks", lambda config: None)
    paths, path = hooks(policy)
    bare = VllmPolicy.start(POLICY, kv_cache_memory_bytes=64 << 20)
    try:
        assert not bare.engine.vllm_config.model_config.logits_processors
        assert policy.engine.vllm_config.model_config.logits_processors == paths
        assert draw(bare, range(16)) == draw(policy, range(16))
        assert draw(bare, [0], boundary=FixedSize(3)) == draw(policy, [0], boundary=FixedSize(3))
        with pytest.raises(ConfigError, match=f"--logits-processors {path}"):
            draw(bare, [0], boundary=Entropy(1.0))
    finally:
        bare.close()


def test_the_caller_s_own_processors_are_kept_and_preempted_segments_end_rightly(policy):
    """A cache for about two requests: most are preempted and come back."""
    from vllm.v1.sample.logits_processor.builtin import MinPLogitsProcessor
    from vllm.v1.worker.gpu.sample.bad_words import BadWordsState

    paths, path = hooks(policy)
    theirs = BadWordsState if "v2" in path else MinPLogitsProcessor
    small = VllmPolicy.start(
        POLICY,
        kv_cache_memory_bytes=1 << 20,
        max_model_len=192,
        enable_prefix_caching=False,
        logits_processors=[theirs, path],
    )
    try:
        named = small.engine.vllm_config.model_config.logits_processors
        assert named == [theirs, *paths]
        boundary = Punctuation("9", 0.0, 12)
        segments = draw(small, range(24), boundary=boundary, max_new_tokens=64)
        assert segments == draw(policy, range(24), boundary=boundary, max_new_tokens=64)
    finally:
        small.close()


def test_what_cannot_be_honoured_is_refused(policy):
    from vllm import SamplingParams

    for law in (Sampling(logit_bias=((5, 1.0),)), Sampling(allowed_token_ids=(20, 21))):
        with pytest.raises(ConfigError, match="model's own entropies"):
            draw(policy.with_sampling(law), [0], boundary=Entropy(1.0))
    params = SamplingParams(extra_args={"rsalign_treshold": 1.0})
    with pytest.raises(ConfigError, match="there are only rsalign_entropy_threshold"):
        asyncio.run(policy.engine.generate(prompt(policy, 0), params))
    assert len(draw(policy, [0], max_new_tokens=2)[0].tokens) == 2
