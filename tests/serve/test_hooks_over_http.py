"""What logits hooks do for a request, asked for over HTTP by ``vllm_xargs``."""

import asyncio

import openai
import pytest
import torch
from exact import language_model, tokenizer
from server import hook
from serving import MESSAGES

from rsalign.embedded import POLICY, STRONG
from rsalign.hooks.arithmetic.request import CodeBook

pytestmark = pytest.mark.engine

GUIDED = {"rsalign_guided_alpha": -0.5}  # away from the guide, whose first choices are the policy's


def ask(client, xargs, extra=None, **changes):
    request = {"model": "tiny", "messages": MESSAGES, "max_tokens": 40}
    body = {"vllm_xargs": xargs} | (extra or {})
    return client.chat.completions.create(**request | changes, extra_body=body)


@torch.inference_mode()
def most_probable(prompt, alpha, eos):
    """Tokens by the greatest pi * pi_r^alpha, with whole texts through transformers."""
    tokens = list(prompt)
    while tokens[-1] != eos:
        own, guide = (
            language_model(path)(torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1)
            for path in (POLICY, STRONG)
        )
        tokens.append(int((own + alpha * guide).argmax()))
    return tokens[len(prompt) :]


def test_a_guide_steers_whoever_answers(client, policy, ask_tokens):
    """vLLM's own sampling, a strategy, and a stream of one."""
    expected = policy.text(tuple(most_probable(ask_tokens, -0.5, tokenizer().eos_token_id)))
    for name in ("tiny", "tiny:plain", "tiny:best_of"):
        answer = ask(client, GUIDED, model=name, temperature=0)
        assert answer.choices[0].message.content == expected
    pieces = ask(client, GUIDED, model="tiny:plain", temperature=0, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == expected
    alone = ask(client, {}, temperature=0)
    assert alone.choices[0].message.content != expected


def test_samples_are_spread_as_in_process(client, policy, ask_tokens):
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    book = CodeBook(n=6, seed=40)
    answer = ask(client, book.extra_args, n=6, seed=40, temperature=0.9, top_p=0.95)
    params = SamplingParams(
        n=6, seed=40, temperature=0.9, top_p=0.95, max_tokens=40, extra_args=book.extra_args
    )
    params.output_kind = RequestOutputKind.FINAL_ONLY
    here = asyncio.run(policy.engine.generate(ask_tokens, params))
    expected = [policy.text(tuple(each.token_ids)) for each in here.outputs]
    assert [choice.message.content for choice in answer.choices] == expected
    assert len(set(expected)) > 3
    without = ask(client, {}, n=6, seed=40, temperature=0.9, top_p=0.95)
    assert [choice.message.content for choice in without.choices] != expected


@pytest.fixture(scope="module")
def ask_tokens(policy):
    from rsalign import Message

    return policy.encode_chat(tuple(Message(**message) for message in MESSAGES))


SEGMENTS = {
    "rsalign": "cards",
    "rsalign_segmenter": "entropy",
    "rsalign_segmenter.threshold": "1.0",
    "rsalign_threshold.target": "1.0",
}


@pytest.mark.parametrize("key", ["segmenter.min_tokens", "segmenter.max_tokens"])
@pytest.mark.parametrize("number", [str(2**63), str(2**64), str(10**30), 2**62, "1e300"])
def test_a_great_number_ends_no_engine(client, key, number):
    """A worker that cannot put it into a tensor takes the server with it."""
    greatest = {"rsalign_segmenter.max_tokens": number, f"rsalign_{key}": number}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError):
            ask(client, SEGMENTS | greatest, stream=stream)
    raw = {"rsalign_entropy_threshold": 1.0, "rsalign_entropy_min_tokens": number}
    with pytest.raises(openai.BadRequestError):
        ask(client, raw | {"rsalign_sentinel": 5}, extra={"stop_token_ids": [5]})
    body = {"model": "tiny", "input": "Hi", "vllm_xargs": SEGMENTS | greatest}
    with pytest.raises(openai.BadRequestError):
        client.post("/responses", cast_to=object, body=body)
    assert ask(client, {}, max_tokens=2).choices


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "xargs", "changes", "says"),
    [
        ("tiny", {"rsalign_guided_alpha_1": 1.0}, {}, "this engine has 1 guides"),
        ("tiny:plain", {"rsalign_guided_alpha_1": 1.0}, {}, "this engine has 1 guides"),
        ("tiny", {"rsalign_guided_alpha": "x"}, {}, "give a number"),
        ("tiny:plain", {"rsalign_guided_alpha": "x"}, {}, "give a number"),
        ("tiny", GUIDED, {"extra": {"repetition_penalty": 1.2}}, "no meaning for a guided law"),
        (
            "tiny:plain",
            CodeBook(n=2, seed=1).extra_args,
            {},
            "extra_args has 'rsalign_arithmetic_n'",
        ),
        ("tiny", CodeBook(n=2, seed=1).extra_args, {"seed": 9}, "have the seeds 1 to 2"),
        (
            "tiny",
            CodeBook(n=2, seed=1).extra_args,
            {"seed": 1, "logprobs": True},
            "leave logprobs out",
        ),
        ("tiny", {"rsalign_statistics": "a"}, {}, "leave it out"),
        (
            "tiny",
            {"rsalign_entropy_threshold": 1.0, "rsalign_sentinel": 5, "rsalign_report": "a"},
            {"extra": {"stop_token_ids": [5]}},
            "leave it out",
        ),
        ("tiny", {"rsalign_entropy_threshold": 1.0}, {}, "must be one of the request's stop_token"),
        ("tiny", {"rsalign_n": 4}, {}, "name a strategy"),
        ("tiny", {"rsalign_guided_alfa": 1.0}, {}, "there are only .*rsalign_guided_alpha"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused(client, model, xargs, changes, says, stream):
    extra = {"vllm_xargs": xargs} | changes.get("extra", {})
    changes = {name: value for name, value in changes.items() if name != "extra"}
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        client.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=8, stream=stream, extra_body=extra, **changes
        )
    assert refused.value.body["code"] == 400


@pytest.mark.parametrize("model", ["tiny", "tiny:plain"])
@pytest.mark.parametrize(
    "large",
    [
        {"allowed_token_ids": [5] * 1025},
        {"min_tokens": 1, "stop_token_ids": list(range(100, 228))},
        {"bad_words": ["such a long word " * 200]},
    ],
    ids=lambda large: next(iter(large)),
)
def test_what_would_end_the_engine_in_its_worker_is_refused(client, model, large):
    """By the second runner's engines; the first takes it. Others are served as before."""
    asked = {"model": model, "max_tokens": 2}
    if hook("SegmentEnd").startswith("rsalign.hooks.v2"):
        with pytest.raises(openai.BadRequestError, match="second model runner"):
            ask(client, {}, large, **asked)
    else:
        assert ask(client, {}, large, **asked).choices
    assert ask(client, {}, **asked).choices
