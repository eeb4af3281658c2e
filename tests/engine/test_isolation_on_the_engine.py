"""What vLLM, its tokenizers and its templates refuse of one request concerns no other."""

import asyncio

import pytest

from rsalign import Aligner, BestOf, ConfigError, Key, Plain, PolicyError, RewardError, Sampling
from rsalign.embedded import REWARD
from rsalign.embedded.problems import problems
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.vllm import VllmReward

pytestmark = pytest.mark.engine

QUESTION = problems("heldout", 1)[0].question
PLAIN = Plain(max_tokens=4)
REFUSES = """{% for message in messages %}{% if 'REFUSE' in message['content'] %}
{{ raise_exception('no such words here') }}{% endif %}
{% if 'BUG' in message['content'] %}{{ 1 + message['content'] }}{% endif %}
{% if 'UNDEFINED' in message['content'] %}{{ nothing.at_all }}{% endif %}
{{ message['content'] }}{% endfor %}"""


@pytest.fixture(params=["in_process", "async"])
def either(request):
    """The policy on each kind of engine."""
    name = {"in_process": "policy", "async": "beside"}[request.param]
    return request.getfixturevalue(name)


@pytest.mark.parametrize("bad", ["a \ud83d", "\udc00", "First " * 600])
def test_a_text_that_cannot_be_read(policy, reward, bad):
    with Aligner(policy, reward, BestOf(n=2, inner=PLAIN)) as aligner:
        results = aligner.generate([QUESTION, bad, QUESTION], on_error="return")
        assert [result.finished for result in results] == [True, False, True]
        assert isinstance(results[1].error, ConfigError)
        conversations = [[{"role": "user", "content": text}] for text in (QUESTION, bad, QUESTION)]
        results = aligner.chat(conversations, on_error="return")
        assert [result.finished for result in results] == [True, False, True]


@pytest.mark.parametrize("bad", ["REFUSE", "BUG", "UNDEFINED"])
def test_a_template_that_refuses_a_conversation(policy, bad):
    conversations = [[{"role": "user", "content": text}] for text in ("First", bad, "Next")]
    with Aligner(policy, None, PLAIN) as aligner:
        results = aligner.chat(conversations, chat_template=REFUSES, on_error="return")
    assert [result.finished for result in results] == [True, False, True]
    assert isinstance(results[1].error, ConfigError)


@pytest.mark.parametrize("bad", ["First REFUSE", "First BUG", "First UNDEFINED"])
def test_a_rewards_template_that_refuses_a_conversation(policy, reward, bad):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(REWARD)
    tokenizer.chat_template = REFUSES
    picky = VllmReward(reward.engine)
    object.__setattr__(picky, "_rendering", Rendering(tokenizer, 512))
    with Aligner(policy, picky, PLAIN) as aligner:
        results = aligner.generate(["Next", bad, "Then"], on_error="return")
    assert [result.finished for result in results] == [True, False, True]
    assert isinstance(results[1].error, RewardError)
    assert results[1].error.prompt.text == bad


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", {10**6: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("allowed_token_ids", [10**6]),
        ("allowed_token_ids", ["word"]),
        ("stop_token_ids", [10**6]),
        ("stop_token_ids", ["word"]),
        ("stop", [b"x"]),
        ("temperature", 3.0),
    ],
)
def test_parameters_that_the_engine_cannot_have(either, field, value):
    from vllm import SamplingParams

    wrong = SamplingParams(max_tokens=4)
    setattr(wrong, field, value)  # where vLLM would not let it be made
    good = SamplingParams(max_tokens=4)
    with Aligner(either, None, PLAIN) as aligner:
        results = aligner.generate(["First"] * 3, [good, wrong, good], on_error="return")
        assert [result.finished for result in results] == [True, False, True]
        assert isinstance(results[1].error, ConfigError)
        assert field in str(results[1].error)


def test_a_bias_of_a_json_object(either):
    """Its keys are text."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=3, temperature=0.0)
    params.logit_bias = {"40": 100.0}
    with Aligner(either, None, PLAIN) as aligner:
        (answer,) = aligner.generate("First", params)
    assert answer.outputs[0].token_ids == [40, 40, 40]


@pytest.mark.parametrize("kind", [TypeError, OverflowError, KeyError, RuntimeError, SystemExit])
def test_a_request_that_the_engine_fails_to_take_is_not_its_death(policy, monkeypatch, kind):
    engine = policy.engine.vllm_engine
    add = engine.add_request

    def picky(request_id, prompt, params):
        if prompt["prompt_token_ids"] == [5, 5]:
            add(request_id, prompt, params)  # half of it is done
            raise kind("planned")
        return add(request_id, prompt, params)

    monkeypatch.setattr(engine, "add_request", picky)

    async def ask(prefix):
        return await policy.extend(prefix, max_new_tokens=2, key=Key(0))

    error = ConfigError if kind in (TypeError, OverflowError) else PolicyError
    with pytest.raises(error, match="planned"):
        asyncio.run(ask((5, 5)))
    assert len(asyncio.run(ask((5,))).tokens) > 0
    assert not engine.has_unfinished_requests()


def test_a_law_of_ones_own(either):
    """`Sampling` is refused like vLLM's parameters, before anything is drawn."""
    with Aligner(either, None, PLAIN) as aligner:
        for law in (Sampling(stop_token_ids=(10**6,)), Sampling(logit_bias=((10**6, 1.0),))):
            with pytest.raises(ConfigError, match="out-of-vocab"):
                aligner.generate("First", law)
