"""The guided law on the real engine is the product of powers of the models' own laws."""

import asyncio
import math

import pytest
import torch
from exact import check_draws, language_model

from rsalign import (
    Aligner,
    BestOf,
    Cards,
    ConfigError,
    Entropy,
    FixedSize,
    Key,
    Line,
    Plain,
    Sampling,
    aligned,
)
from rsalign.core.tasks import concurrently
from rsalign.core.types import Stop
from rsalign.embedded import POLICY, STRONG
from rsalign.embedded.problems import problems
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.vllm.environment import chooses_second_runner
from rsalign.engines.vllm.logits_processors import running_logits_processors
from rsalign.hooks.guided.request import Guide
from rsalign.hooks.loading import hook_path
from rsalign.policies.vllm import VllmPolicy

pytestmark = pytest.mark.engine

GUIDES = [STRONG, Guide(STRONG, POLICY), Guide(STRONG, "policy")]
LAWS = [
    Sampling(guidance=(0.7,)),
    Sampling(guidance=(-0.4,)),
    Sampling(guidance=(0.0, 1.5)),
    Sampling(guidance=(0.0, 0.0, 0.6)),
    Sampling(guidance=(0.5, -1.0, 0.25), temperature=0.8),
    Sampling(guidance=(0.5,), top_p=0.9, top_k=40, temperature=1.3),
    Sampling(guidance=(0.4, 0.0, 0.5), allowed_token_ids=tuple(range(2, 400, 2))),
]


@pytest.fixture(scope="module")
def guided(policy):
    guided = VllmPolicy.start(POLICY, guides=GUIDES, kv_cache_memory_bytes=64 << 20)
    yield guided
    guided.close()


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode(f"{problem.question} So") for problem in problems("heldout", 12)]


def models(policy):
    """The engine's guides, by name."""
    running = running_logits_processors(policy.engine.vllm_engine)
    (hook,) = [p for p in running if type(p).__name__ == "Guided"]
    return hook.guides.models


def num_read(policy):
    """Tokens that went through them."""
    return {name: model.num_read for name, model in models(policy).items()}


@torch.inference_mode()
def exact(prefix, tokens, law):
    """Ln of the guided law, float64, (tokens, vocab), by whole sequences through transformers."""
    ids = torch.tensor([prefix + tokens])

    def model(path):
        logits = language_model(path)(ids).logits[0, len(prefix) - 1 : -1]
        return logits.double().log_softmax(-1)

    own, strong = model(POLICY), model(STRONG)
    first, second, third = (*law.guidance, 0.0, 0.0)[:3]
    scores = own + first * strong + (second + third) * (strong - own)
    if law.allowed_token_ids:
        forbidden = torch.ones(own.shape[-1], dtype=torch.bool)
        forbidden[list(law.allowed_token_ids)] = False
        scores[:, forbidden] = -math.inf
    scores = scores / law.temperature
    if law.top_k:
        least = scores.topk(law.top_k).values[:, -1:]
        scores[scores < least] = -math.inf
    ordered, order = scores.softmax(-1).sort(descending=True)
    ordered[ordered.cumsum(-1) - ordered > law.top_p] = 0
    kept = torch.zeros_like(ordered).scatter(-1, order, ordered)
    return (kept / kept.sum(-1, keepdim=True)).log()


def drawn(policy, prompts, *, max_new_tokens=24, boundary=None):
    async def all_():
        return await concurrently(
            policy.extend(
                prompt,
                max_new_tokens=max_new_tokens - i % 5,
                key=Key(i),
                boundary=boundary,
            )
            for i, prompt in enumerate(prompts)
        )

    return asyncio.run(all_())


def follows(segments, prompts, law):
    for segment, prompt in zip(segments, prompts, strict=True):
        right = exact(prompt, segment.tokens, law)
        of_tokens = right.gather(-1, torch.tensor(segment.tokens)[:, None])[:, 0].tolist()
        assert segment.log_probs == pytest.approx(of_tokens, abs=3e-4)
    return True


@pytest.mark.parametrize("law", LAWS, ids=range(len(LAWS)))
def test_log_probabilities_are_those_of_the_product(guided, prompts, law):
    policy = guided.with_sampling(law)
    segments = drawn(policy, prompts)
    assert follows(segments, prompts, law)
    # among others or alone, with or without what was read before
    assert drawn(policy, prompts[:1]) == segments[:1]


def test_draws_follow_the_law(guided, prompts):
    """Chi-square of the first two tokens against the exact law, level 1e-6."""
    law, prompt = Sampling(guidance=(0.5, -1.3)), prompts[0]
    (first,) = exact(prompt, (0,), law).exp()
    expected = {}
    for token in (first > 1e-6).nonzero()[:, 0].tolist():
        second = exact(prompt + (token,), (0,), law).exp()[0]
        expected |= {
            (token, other): float(first[token] * second[other])
            for other in (second > 1e-9).nonzero()[:, 0].tolist()
        }
    expected["everything less likely"] = 1 - sum(expected.values())
    policy = guided.with_sampling(law)

    async def draws():
        return await concurrently(
            (policy.extend(prompt, max_new_tokens=2, key=Key(0, (i,))) for i in range(1500)),
            limit=64,
        )

    pairs = [(*segment.tokens, 0)[:2] for segment in asyncio.run(draws())]
    assert check_draws(pairs, expected)
    plain = drawn(guided, prompts[:1] * 400, max_new_tokens=6)
    assert not check_draws([(*s.tokens, 0)[:2] for s in plain], expected)


def test_requests_that_ask_for_nothing_are_not_changed(guided, policy, prompts):
    """Beside guided ones, token for token and to the last bit."""
    together = [guided, guided.with_sampling(Sampling(guidance=(2.0,)))]

    async def mixed():
        return await concurrently(
            together[i % 2].extend(prompt, max_new_tokens=20, key=Key(i))
            for i, prompt in enumerate(prompts)
        )

    async def alone():
        return await concurrently(
            policy.extend(prompt, max_new_tokens=20, key=Key(i)) for i, prompt in enumerate(prompts)
        )

    assert asyncio.run(mixed())[::2] == asyncio.run(alone())[::2]


def test_a_token_costs_one_token_of_each_guide_that_counts(guided, prompts):
    policy = guided.with_sampling(Sampling(guidance=(0.0, 1.0)))
    before = num_read(guided)
    segments = drawn(policy, prompts[:6], max_new_tokens=60)
    read = {name: count - before[name] for name, count in num_read(guided).items()}
    most = sum(map(len, prompts[:6])) + sum(len(segment.tokens) for segment in segments)
    assert 0 < read[STRONG] <= most
    assert 0 < read[POLICY] <= most
    drawn(guided.with_sampling(Sampling(guidance=(1.0,))), prompts[:6])
    assert num_read(guided)[POLICY] - before[POLICY] == read[POLICY]
    if chooses_second_runner():  # which tells who has left when there is another guided step
        drawn(guided.with_sampling(Sampling(guidance=(1.0, 1.0))), prompts[:1])
        assert all(len(model._place) <= 1 for model in models(guided).values())
    else:  # another step of any kind
        drawn(guided, prompts[:1])
        assert all(not model._place for model in models(guided).values())


def test_segments_are_not_read_again(guided, reward):
    """Each is a new request with a longer prompt, but its guide has read that already."""
    strategy = Cards(
        segmenter=FixedSize(6), threshold=Line(target=2.0), max_tokens=48, max_tries=4, proposals=2
    )
    conversations = [[{"role": "user", "content": p.question}] for p in problems("tune", 6)]
    before = num_read(guided)[STRONG]
    with Aligner(guided, reward, strategy) as aligner:
        answers = aligner.chat(conversations, Sampling(guidance=(1.0,)))
    spent = [answer.alignment.usage for answer in answers]
    prompts = sum(len(answer.prompt_token_ids) for answer in answers)
    fresh = sum(each.policy_tokens_drawn for each in spent) + prompts
    assert sum(each.prompt_tokens for each in spent) > 3 * fresh  # what there would be to read
    # and one token of each request, whose law is asked for anew
    requests = sum(each.policy_requests for each in spent)
    assert num_read(guided)[STRONG] - before <= fresh + requests


def test_segments_end_where_the_guided_law_is_uncertain(guided, prompts):
    law, boundary = Sampling(guidance=(0.8,)), Entropy(0.9, 2, 40)
    segments = drawn(guided.with_sampling(law), prompts, max_new_tokens=40, boundary=boundary)
    assert {segment.stop for segment in segments} >= {Stop.BOUNDARY}
    for segment, prompt in zip(segments, prompts, strict=True):
        right = exact(prompt, (*segment.tokens, 0), law)
        entropy = -(right.exp() * right).nansum(-1)
        ends = [j for j in range(2, len(entropy)) if entropy[j] >= 0.9 - 1e-4]
        if segment.stop is Stop.BOUNDARY:
            assert len(segment.tokens) == min([*ends, 40])
            assert segment.boundary_entropy == pytest.approx(float(entropy[-1]), abs=1e-3)
        else:
            assert not ends[:-1]


def test_preempted_requests_go_on_under_the_same_law(prompts, monkeypatch):
    from vllm.v1.core.sched.scheduler import Scheduler

    preempted = []
    preempt = Scheduler._preempt_request

    def counted(self, request, *rest, **named):
        preempted.append(request.request_id)
        return preempt(self, request, *rest, **named)

    monkeypatch.setattr(Scheduler, "_preempt_request", counted)
    law = Sampling(guidance=(0.7,), stop_token_ids=())
    tight = VllmPolicy.start(POLICY, guides=[STRONG], sampling=law, num_gpu_blocks_override=20)
    segments = drawn(tight, prompts, max_new_tokens=90)
    tight.close()
    assert preempted
    assert follows(segments, prompts, law)


def test_every_way_to_ask(guided, reward):
    """The guide was trained to the end: what it guides is right far more often."""
    from vllm import SamplingParams

    asked = list(problems("tune", 24))
    conversations = [[{"role": "user", "content": problem.question}] for problem in asked]

    def right(answers):
        return sum(
            problem.grade(answer.outputs[0].text)
            for problem, answer in zip(asked, answers, strict=True)
        )

    params = SamplingParams(max_tokens=96, extra_args={"rsalign_guided_alpha": 1.0})
    with Aligner(guided, reward) as aligner:
        alone = aligner.chat(conversations, SamplingParams(max_tokens=96))
        by_params = aligner.chat(conversations, params)
        by_law = aligner.chat(conversations, Sampling(guidance=(1.0,)))
        best = aligner.chat(conversations[:4], params, strategy=BestOf(n=2))
    assert right(by_params) >= 23 > 20 > right(alone)
    assert [a.outputs[0].text for a in by_params] == [a.outputs[0].text for a in by_law]
    assert all(len(answer.alignment.trace.proposals) == 2 for answer in best)


def test_inside_an_aligned_block(policy, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams

    from rsalign.engines.vllm.building import engine_arguments
    from rsalign.engines.vllm.errors import refusal_types

    hook = hook_path(policy.engine.vllm_config, "Guided")
    by_hand = {
        "additional_config": {"rsalign_guides": [STRONG]},
        "logits_processors": [hook],
        "kv_cache_memory_bytes": 64 << 20,
    }
    llm = LLM(**engine_arguments(POLICY, by_hand, pooling=False))
    strong = [[{"role": "user", "content": p.question}] for p in problems("tune", 4)]

    def params(**extra):
        return SamplingParams(temperature=0, max_tokens=64, extra_args=extra)

    own = llm.chat(strong, params(rsalign_guided_alpha=1), use_tqdm=False)
    plain = llm.chat(strong, params(), use_tqdm=False)
    with aligned(llm, strategy=Plain()):
        inside = llm.chat(strong, params(rsalign_guided_alpha=1.0), use_tqdm=False)
        none = {"rsalign": "none", "rsalign_guided_alpha": 1}
        beside = llm.chat(strong, params(**none), use_tqdm=False)
        with pytest.raises(ConfigError, match="has 1 guides"):
            llm.chat(strong, params(rsalign_guided_alpha_1=1), use_tqdm=False)
        with pytest.raises(ConfigError, match="has 1 guides"):
            llm.chat(strong, params(rsalign="none", rsalign_guided_alpha_1=1), use_tqdm=False)
    texts = [[o.outputs[0].text for o in outputs] for outputs in (own, inside, beside)]
    assert texts[0] == texts[1] == texts[2] != [o.outputs[0].text for o in plain]
    with pytest.raises(refusal_types(), match="give a number"):
        llm.chat(strong, params(rsalign_guided_alpha="1"), use_tqdm=False)
    penalized = params(rsalign_guided_alpha=1)
    penalized.repetition_penalty = 1.2
    with pytest.raises(refusal_types(), match="has no meaning for a guided law"):
        llm.chat(strong, penalized, use_tqdm=False)
    # what only the engine can see
    empty = llm.chat(strong, params(rsalign_guided_alpha_1=1.0), use_tqdm=False)
    assert [(o.outputs[0].text, o.outputs[0].finish_reason) for o in empty] == [("", "stop")] * 4


def test_what_cannot_be_guided_is_refused(guided, policy, prompts, tmp_path):
    with pytest.raises(ConfigError, match="this engine has 3 guides"):
        guided.with_sampling(Sampling(guidance=(0.0, 0.0, 0.0, 1.0)))
    with pytest.raises(ConfigError, match="this engine has 0 guides"):
        policy.with_sampling(Sampling(guidance=(1.0,)))
    with pytest.raises(ConfigError, match="only temperature 1 without truncation"):
        asyncio.run(guided.with_sampling(LAWS[0]).log_probs(prompts[0], (5,)))
    assert policy.with_sampling(Sampling()).fingerprint != guided.with_sampling(LAWS[0]).fingerprint
    strongest = guided.with_sampling(LAWS[0]).fingerprint
    assert ModelFiles.of(STRONG).digest() in strongest
    with pytest.raises(ConfigError, match="cannot load the guide /no/such/model"):
        VllmPolicy.start(POLICY, guides=["/no/such/model"], kv_cache_memory_bytes=64 << 20)
    other = other_vocabulary(tmp_path)
    with pytest.raises(ConfigError, match="has another vocabulary"):
        VllmPolicy.start(POLICY, guides=[other], kv_cache_memory_bytes=64 << 20)
    assert ModelFiles.of(STRONG).digest() not in guided.fingerprint


def other_vocabulary(folder):
    """The strong model with one token called otherwise."""
    import shutil

    path = folder / "other"
    shutil.copytree(STRONG, path)
    file = path / "tokenizer.json"
    file.write_text(file.read_text().replace("<|reserved_3|>", "<|renamed_3|>"))
    settings = path / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("<|reserved_3|>", "<|renamed_3|>"))
    return str(path)
