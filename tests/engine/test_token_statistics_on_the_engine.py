"""How certain the model was of each token: the engine's word against transformers in float32."""

import asyncio
import functools

import pytest
import torch
from exact import language_model

from rsalign import ConfigError, Key, Message, PolicyError, Sampling, Stop
from rsalign.core.protocols import Measuring
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY
from rsalign.embedded.problems import problem
from rsalign.engines import reports
from rsalign.hooks.loading import hook_path
from rsalign.hooks.shared.arguments import hides_the_model
from rsalign.policies.vllm import VllmPolicy
from rsalign.segments import Entropy, FixedSize, Punctuation

pytestmark = pytest.mark.engine

BOUNDARIES = [None, FixedSize(7), Entropy(1.0), Punctuation("0123456789", 0.02, 2, 12)]


@functools.cache
def prompt(policy, index):
    return policy.encode_chat((Message("user", problem("heldout", index).question),))


@torch.inference_mode()
def statistics(prefix, tokens):
    """Entropy and self-certainty of the model's law before each token and after the last."""
    logits = language_model()(torch.tensor([prefix + tokens])).logits[0, len(prefix) - 1 :]
    law = logits.double().log_softmax(-1)
    uniform = torch.full_like(law, 1 / law.shape[-1])
    divergence = torch.nn.functional.kl_div(law, uniform, reduction="none").sum(-1)
    return (-(law.exp() * law).sum(-1)).tolist(), divergence.tolist()


def draw(policy, indices, *, boundary=None, measured=True, max_new_tokens=100):
    async def main():
        verb = policy.measure if measured else policy.extend
        return await concurrently(
            verb(
                prompt(policy, i),
                max_new_tokens=max_new_tokens,
                key=Key(1, (i,)),
                boundary=boundary,
            )
            for i in indices
        )

    return asyncio.run(main())


def check(policy, boundary, segments, again):
    """That they are what `extend` draws, and rightly measured; returns how they ended."""
    assert segments == again
    for i, segment in enumerate(segments):
        entropies, certainties = statistics(prompt(policy, i), segment.tokens)
        num = len(segment.tokens)
        assert segment.certainty.entropies == pytest.approx(entropies[:num], abs=1e-4)
        assert segment.certainty.self_certainties == pytest.approx(certainties[:num], abs=1e-4)
        if isinstance(boundary, Entropy) and segment.stop is Stop.BOUNDARY:
            assert segment.boundary_entropy == pytest.approx(entropies[num], abs=1e-4)
            assert segment.boundary_entropy == again[i].boundary_entropy
        else:
            assert segment.boundary_entropy is None
    return {segment.stop for segment in segments}


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_every_token_is_measured_whatever_ends_the_segment(policy, boundary):
    assert isinstance(policy, Measuring)
    segments = draw(policy, range(24), boundary=boundary)
    stops = check(
        policy, boundary, segments, draw(policy, range(24), boundary=boundary, measured=False)
    )
    assert (Stop.BOUNDARY if boundary else Stop.EOS) in stops
    assert not reports.num_unread(), "a ticket was left behind"


@pytest.mark.parametrize(
    "law",
    [
        Sampling(temperature=0),
        Sampling(temperature=0.3, top_p=0.8),
        Sampling(temperature=2.0, top_k=5, min_p=0.01),
        Sampling(repetition_penalty=1.2),
        Sampling(stop=("So", "Answer")),
    ],
    ids=str,
)
@pytest.mark.parametrize("boundary", [None, Entropy(1.0)], ids=str)
def test_it_is_the_model_s_own_law_whatever_is_drawn_from(policy, law, boundary):
    shaped = policy.with_sampling(law)
    if hides_the_model(law, hook_path(policy.engine.vllm_config, "TokenStatistics")):
        with pytest.raises(ConfigError, match="and penalties"):
            draw(shaped, [0], boundary=boundary)
        return
    segments = draw(shaped, range(12), boundary=boundary)
    check(shaped, boundary, segments, draw(shaped, range(12), boundary=boundary, measured=False))


def test_those_who_ask_and_those_who_do_not_share_a_batch(policy):
    async def main():
        both = [policy.measure, policy.extend] * 16
        return await concurrently(
            verb(prompt(policy, i // 2), max_new_tokens=40, key=Key(1, (i // 2,)))
            for i, verb in enumerate(both)
        )

    segments = asyncio.run(main())
    assert segments[::2] == segments[1::2]
    assert [s.certainty for s in segments[1::2]] == [None] * 16
    alone = draw(policy, [3], max_new_tokens=40)[0]
    assert alone.certainty == segments[6].certainty, "it depends on the rest of the batch"


def test_preempted_requests(policy):
    """A cache for about two requests: most are preempted, and come back."""
    small = VllmPolicy.start(
        POLICY, kv_cache_memory_bytes=1 << 20, max_model_len=192, enable_prefix_caching=False
    )
    try:
        for boundary in (None, Punctuation("9", 0.0, 12)):
            segments = draw(small, range(24), boundary=boundary, max_new_tokens=64)
            again = draw(policy, range(24), boundary=boundary, max_new_tokens=64)
            check(policy, boundary, segments, again)
            assert [s.certainty for s in segments] == [s.certainty for s in again]
    finally:
        small.close()


def test_prompts_computed_in_parts(policy):
    """Greedy, because vLLM cannot split a seeded prompt on CPU."""
    greedy = Sampling(temperature=0)
    parts = VllmPolicy.start(
        POLICY,
        kv_cache_memory_bytes=64 << 20,
        enable_chunked_prefill=True,
        max_num_batched_tokens=48,
        max_num_seqs=16,
        sampling=greedy,
    )
    try:
        segments = draw(parts, range(16), boundary=Entropy(1.0))
        here = draw(policy.with_sampling(greedy), range(16), boundary=Entropy(1.0), measured=False)
        check(policy, Entropy(1.0), segments, here)
    finally:
        parts.close()


def test_what_cannot_be_measured_is_refused(policy, monkeypatch):
    for law in (Sampling(logit_bias=((5, 1.0),)), Sampling(allowed_token_ids=(20, 21))):
        with pytest.raises(ConfigError, match="hides its own law"):
            draw(policy.with_sampling(law), [0])
    monkeypatch.setattr(type(policy.engine), "can_report", False)
    with pytest.raises(ConfigError, match="let rsalign start it"):
        draw(policy, [0])
    assert draw(policy, [0], boundary=Entropy(1.0), measured=False)[0].boundary_entropy is None


def test_what_was_lost_is_not_made_up(policy, monkeypatch):
    monkeypatch.setattr(reports, "_MAX_REPORTS", 0)
    with pytest.raises(PolicyError, match="has lost what it measured"):
        draw(policy, [0])


def test_a_cancelled_request_leaves_nothing(policy):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    policy.measure(prompt(policy, i), max_new_tokens=300, key=Key(2, (i,)))
                )
                for i in range(8)
            ]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()

    asyncio.run(main())
    assert len(draw(policy, range(4))) == 4  # by then the engine has heard of it
    assert not reports.num_unread()
