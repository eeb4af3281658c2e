"""A conversation has the same tokens at every door: those that vLLM makes of it."""

import asyncio
import copy

import pytest
from vllm.renderers.params import ChatParams

from rsalign import Aligner, BestOf, ConfigError, Message, Plain, aligned
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.embedded import POLICY
from rsalign.policies.tokenization import Tokenization

pytestmark = pytest.mark.engine

_TOOLS = """
{%- for m in messages -%}
<{{ m.role }}{% if m.name %} name={{ m.name }}{% endif %}>
{%- if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif -%}
{%- if m.tool_call_id %}({{ m.tool_call_id }}){% endif -%}
{%- if m.content is string %}{{ m.content }}{% else %}{{ m.content | tojson }}{% endif -%}
{%- for c in m.tool_calls or [] %}{{ c.function.name }}
{%- for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}{% endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %}<assistant>{% endif -%}
"""
_PARTS = """
{%- for message in messages -%}
<{{ message['role'] }}>
{%- if message['content'] is string %}{{ message['content'] }}{% else -%}
{%- for part in message['content'] %}|{{ part['text'] or part['name'] }}{{ part['mark'] }}
{%- endfor -%}
{%- endif -%}
{%- if message['tools'] %}{{ message['tools'] | tojson }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<assistant>{% endif -%}
"""
_DEVELOPER = _TOOLS + "{% if messages[0].role == 'developer' %}dev{% endif %}"
_STRICT = _TOOLS.replace(
    "{%- for m in messages -%}",
    """
{%- for m in messages -%}
{%- if m.role == 'system' and not loop.first %}{{ raise_exception('system first') }}{% endif -%}""",
)
TEMPLATES = {"tools": _TOOLS, "parts": _PARTS, "developer": _DEVELOPER, "strict": _STRICT}

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
}
TEXT = {"type": "text", "text": "Ann has 1 coin."}
CONVERSATIONS = {
    "plain": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    "none": [{"role": "user", "content": None}],
    "calls": [
        {"role": "user", "content": "1 + 2?", "name": "Ann"},
        {"role": "assistant", "content": None, "reasoning": "add them", "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "3"}, ""]},
        {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "user", "content": "And?"},
    ],
    "broken arguments": [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
        {"role": "user", "content": "?"},
    ],
    "parts": [
        {"role": "system", "content": [TEXT, TEXT]},
        {"role": "user", "content": [TEXT, "and", {"type": "input_text", "text": "more"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "refusal", "refusal": "no"},
                {"type": "output_text", "text": "yes"},
                {"type": "text", "text": ""},
                {"type": "text", "text": None},
            ],
        },
        {"role": "user", "content": [{**TEXT, "mark": "!"}]},
        {"role": "user", "content": []},
    ],
    "tool reference": [
        {"role": "user", "content": "?"},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "tool_reference", "name": "f"}]},
    ],
    "developer": [
        {"role": "developer", "content": "Be brief.", "tools": [{"type": "function"}]},
        {"role": "user", "content": "Hi"},
    ],
    "developer later": [
        {"role": "system", "content": [TEXT, TEXT]},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Yes?"},
    ],
}


@pytest.fixture(scope="module")
def llm(policy):
    """A caller's own engine; `policy` is there to outlive it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        return LLM(
            POLICY,
            dtype="float32",
            enforce_eager=True,
            kv_cache_memory_bytes=64 << 20,
            enable_chunked_prefill=False,
            max_num_batched_tokens=8192,
            chat_template=_TOOLS,
        )


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_template_gets_what_vllm_gives_it(policy, name, template):
    """Without vLLM's renderer too, as for a server's policy, or for a reward."""
    source, conversation = TEMPLATES[template], CONVERSATIONS[name]
    params = ChatParams(
        chat_template=source,
        chat_template_kwargs={"add_generation_prompt": True, "tokenize": False},
    )
    _, expected = policy.engine.renderer.render_messages(copy.deepcopy(conversation), params)
    messages = tuple(map(Message.of, conversation))
    rendered = ChatTemplate(policy.engine.tokenizer).render(messages, chat_template=source)
    assert rendered == expected["prompt"]
    alone = Tokenization(policy.engine.tokenizer, 2048)
    tokens = alone.encode_chat(messages, chat_template=source)
    assert tokens == policy.encode_chat(messages, chat_template=source)
    assert list(tokens) == policy.engine.tokenizer.encode(rendered, add_special_tokens=False)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_door_has_the_same_tokens(llm, policy, name):
    """`LLM.chat`, the aligner over a policy or over an `LLM`, and `aligned()`."""
    from vllm import SamplingParams

    conversation, params = CONVERSATIONS[name], SamplingParams(max_tokens=2, seed=1)
    expected = llm._preprocess_chat_one(copy.deepcopy(conversation))["prompt_token_ids"]
    heard = []

    def reward(prompt, response):
        heard.append(prompt)
        return 0.0

    before = copy.deepcopy(conversation)
    best = BestOf(n=2, inner=Plain(max_tokens=2))
    with aligned(llm, reward, best):
        (inside,) = llm.chat(conversation, params, use_tqdm=False)
    with Aligner(llm, reward, best) as aligner:  # the template of the `LLM` counts here, too
        (over_llm,) = aligner.chat(conversation, params, use_tqdm=False)
    with Aligner(policy, reward, best) as aligner:
        (own,) = aligner.chat(conversation, params, chat_template=_TOOLS, use_tqdm=False)
        as_prompt = {"messages": conversation, "prompt_token_ids": expected}
        (given,) = aligner.generate(as_prompt, params, use_tqdm=False)
        streamed = asyncio.run(_last(aligner, as_prompt, params))
    found = (inside, over_llm, own, given, streamed)
    assert all(output.prompt_token_ids == list(expected) for output in found)
    assert len({output.outputs[0].text for output in found}) == 1
    assert len(set(heard)) == 1  # one text for functions and judges
    assert conversation == before


async def _last(aligner, prompt, params):
    events = [event async for event in aligner.astream(prompt, params)]
    return events[-1].output


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "'assistant' only"),
        ({"role": "user", "content": "x", "contnet": "y"}, "'contnet'"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "only text",
        ),
    ],
)
def test_every_door_refuses_the_same(llm, policy, message, said):
    with aligned(llm), pytest.raises(ConfigError, match=said):
        llm.chat([message], use_tqdm=False)
    with Aligner(policy) as aligner:
        with pytest.raises(ConfigError, match=said):
            aligner.chat([message])
        with pytest.raises(ConfigError, match=said):
            aligner.generate({"messages": [message]})
