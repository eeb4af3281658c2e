"""A message keeps all that vLLM renders of it; what vLLM would not render is refused by name."""

import copy
import json
import pickle
import re

import pytest

from rsalign import ConfigError, Message, Prompt

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
}
READ = {**CALL, "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}


def call(**function):
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}


def test_a_plain_message_is_a_role_and_a_text():
    message = Message.of({"role": "user", "content": "hi"})
    assert message == Message("user", "hi")
    assert message.given == {"role": "user", "content": "hi"}
    assert (message.text, message.fields, message.speaker) == ("hi", "", "user")
    assert Message.of(message) is message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"role": "assistant", "content": "x", "tool_calls": None}, {"role": "assistant"}),
        ({"role": "assistant", "content": "x", "tool_calls": []}, {"role": "assistant"}),
        ({"role": "assistant", "content": "x", "refusal": None, "audio": None}, {}),
        (call(name="f", arguments='{"a": 1}'), call(name="f", arguments={"a": 1})),
        (call(name="f", arguments="{broken"), call(name="f", arguments={})),
        (call(name="f", arguments="[1]"), call(name="f")),
        (call(name="f", arguments=None), call(name="f", arguments="")),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "r"},
            {"role": "assistant", "content": "x", "reasoning": "r"},
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "old", "reasoning": "r"},
            {"role": "assistant", "content": "x", "reasoning": "r"},
        ),
        (
            {"role": "assistant", "tool_calls": iter([CALL])},
            {"role": "assistant", "content": None, "tool_calls": [READ]},
        ),
    ],
)
def test_what_means_the_same_is_equal(one, other):
    found = Message.of(one)
    same = Message.of({"role": "assistant", "content": "x"} | other)
    assert found == same
    assert hash(found) == hash(same)
    assert found.canonical == same.canonical


DIFFERENT = [
    {"role": "assistant", "content": ""},
    {"role": "assistant", "content": None},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "", "name": "Ann"},
    {"role": "assistant", "content": "", "reasoning": "r"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "assistant", "content": [{"type": "text", "text": ""}]},
    {"role": "tool", "content": "", "tool_call_id": "c1"},
    {"role": "tool", "content": "", "tool_call_id": "c2"},
    {"role": "developer", "content": "", "tools": [{"type": "function"}]},
    {"role": "user", "content": ["a", "b"]},
    {"role": "user", "content": ["a\nb"]},
    {"role": "user", "content": "a\nb"},
]


def test_what_differs_differs_in_every_form():
    """A journal tells them apart by `canonical`, and a template by `given`."""
    messages = [Message.of(given) for given in DIFFERENT]
    assert len(set(messages)) == len({one.canonical for one in messages}) == len(DIFFERENT)
    for given, message in zip(DIFFERENT, messages, strict=True):
        assert Message.of(message.given) == message == pickle.loads(pickle.dumps(message))
        assert message.given.items() >= {k: v for k, v in given.items() if "call" not in k}.items()


def test_the_callers_dicts_are_left_alone():
    given = {"role": "assistant", "content": [{"type": "text", "text": "x"}], "tool_calls": [CALL]}
    before = copy.deepcopy(given)
    message = Message.of(given)
    message.given["tool_calls"][0]["function"]["arguments"]["a"] = 5
    assert given == before
    assert message.given["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": 2}


def test_a_reader_without_a_template_sees_names_and_calls():
    conversation = [
        {"role": "user", "content": "1 + 2?", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "3"}]},
        {"role": "assistant", "content": "So:", "tool_calls": [CALL]},
    ]
    prompt = Prompt(tuple(map(Message.of, conversation)), (1,))
    assert prompt.text == (
        'user (Ann): 1 + 2?\n\nassistant: add({"a": 1, "b": 2})\n\ntool: 3\n\n'
        'assistant: So:\nadd({"a": 1, "b": 2})'
    )
    alone = Prompt(prompt.messages[1:2], (1,))
    assert alone.text == 'add({"a": 1, "b": 2})'


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hi", "'hi': give a dict with 'role' and 'content'"),
        ({"content": "x"}, "'role' and 'content'"),
        ({"role": 3, "content": "x"}, "'role' and 'content'"),
        ({"role": "user"}, "'role' and 'content'"),
        ({"role": "user", "content": 5}, "content 5: give text"),
        ({"role": "user", "content": {"type": "text"}}, "give text, or a list of parts"),
        ({"role": "user", "content": "x", "nmae": "Ann"}, "the field 'nmae'"),
        ({"role": "user", "content": "x", "name": 3}, "name=3: give text"),
        ({"role": "assistant", "content": "x", "refusal": "no"}, "the field 'refusal'"),
        ({"role": "assistant", "content": "x", "function_call": {}}, "the field 'function_call'"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "'assistant' only"),
        ({"role": "user", "content": "x", "reasoning": "r"}, "'assistant' only"),
        ({"role": "user", "content": "x", "tool_call_id": "c1"}, "'tool' only"),
        ({"role": "system", "content": "x", "tools": [CALL]}, "'developer' only"),
        ({"role": "assistant", "content": "x", "tool_calls": "f"}, "give a list"),
        ({"role": "assistant", "content": "x", "tool_calls": ["f"]}, "a tool call is 'f'"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"type": "custom"}]}, "a tool call"),
        (
            {"role": "assistant", "content": "x", "tool_calls": [{**CALL, "n": {1}}]},
            "not JSON data",
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "'image_url'"),
        ({"role": "user", "content": [{"text": "x"}]}, "only text is possible"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "'text' must be text"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "'text' must be text"),
        ({"role": "user", "content": [5]}, "the part 5"),
    ],
)
def test_what_vllm_would_not_render_is_refused_by_name(given, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        Message.of(given)
    assert len(str(refused.value)) < 500


def test_fields_are_a_json_object():
    for wrong in ("[1]", "nonsense", "1"):
        with pytest.raises(ConfigError, match="must be a JSON object"):
            Message("user", "x", wrong)
    assert json.loads(Message.of(DIFFERENT[5]).fields) == {"tool_calls": [READ]}
