"""Options of chat templates: one value, read and refused in one way."""

import dataclasses

import pytest

from rsalign import ConfigError, Message
from rsalign.core.text.chat_options import NAMES, ChatOptions, Clock
from rsalign.core.text.roles import merge_system_message

TOOL = {"type": "function", "function": {"name": "f"}}
SYSTEM, USER = Message("system", "Be brief."), Message("user", "Hello")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tools": "f"}, "tools='f': give a list of JSON objects"),
        ({"tools": [1]}, "give a list of JSON objects"),
        ({"documents": TOOL}, "documents=.*give a list of JSON objects"),
        ({"documents": [object()]}, "documents=.*give JSON data"),
        ({"chat_template_kwargs": [1]}, "give an object of the chat template's variables"),
        ({"chat_template_kwargs": {"f": print}}, "chat_template_kwargs=.*give JSON data"),
        ({"chat_template_kwargs": {"tokenize": 1}}, "'tokenize', which is no variable"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "give chat_template as an argument"),
        ({"reasoning_effort": 3}, r"reasoning_effort=3\): give a string"),
        ({"add_generation_prompt": "no"}, r"add_generation_prompt='no'\): give True or False"),
        ({"merge_system": 1}, "merge_system=1"),
        ({"date": "30 Nov"}, "give a day such as '2026-11-30'"),
        ({"tool": [TOOL]}, "there is no chat option 'tool'"),
        ({"tools.f": 1}, "there is no chat option 'tools.f'"),
    ],
)
def test_what_cannot_be_given_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        ChatOptions.read(given)


def test_the_template_gets_what_vllm_would_give_it():
    options = ChatOptions(
        chat_template_kwargs={"a": 1}, tools=[TOOL], documents=[{"text": "t"}], date="2026-11-30"
    )
    assert options.arguments == {
        "a": 1,
        "tools": [TOOL],
        "documents": [{"text": "t"}],
        "strftime_now": Clock("2026-11-30"),
    }
    assert ChatOptions(reasoning_effort="none").arguments == {
        "reasoning_effort": "none",
        "enable_thinking": False,
    }
    own = ChatOptions(reasoning_effort="low", chat_template_kwargs={"enable_thinking": False})
    assert own.arguments["enable_thinking"] is False
    assert ChatOptions().arguments == {}


def test_a_call_says_more_than_the_aligner_and_variables_are_joined():
    own = ChatOptions(chat_template_kwargs={"a": 1, "b": 1}, merge_system=True, date="2026-11-30")
    call = ChatOptions(chat_template_kwargs={"b": 2}, reasoning_effort="low")
    joined = call.over(own)
    assert joined.chat_template_kwargs == {"a": 1, "b": 2}
    assert (joined.merge_system, joined.date, joined.reasoning_effort) == (True, own.date, "low")
    assert ChatOptions().over(own) is own
    assert {hash(own), hash(dataclasses.replace(own))} == {hash(own)}
    assert set(NAMES) == {each.name for each in dataclasses.fields(ChatOptions)}


def test_options_do_not_change_with_what_they_were_made_of():
    given = {"a": [1]}
    options = ChatOptions(chat_template_kwargs=given)
    given["a"].append(2)
    assert options.variables == {"a": [1]}


def test_a_system_message_is_merged_into_the_first_message_of_the_user():
    assistant = Message("assistant", "Hi")
    merged = merge_system_message((SYSTEM, assistant, USER, USER))
    assert merged == (assistant, Message("user", "Be brief.\n\nHello"), USER)
    assert merge_system_message((USER,)) is None
    assert merge_system_message((SYSTEM, assistant)) is None
    parts = Message.of({"role": "user", "content": [{"type": "text", "text": "Hello"}]})
    (one,) = merge_system_message((SYSTEM, parts))
    assert one.given["content"] == [
        {"type": "text", "text": "Be brief.\n\n"},
        {"type": "text", "text": "Hello"},
    ]
    first, second = merge_system_message((SYSTEM, Message("developer", "Be kind."), USER, USER))
    assert (first.content, second) == ("Be brief.\n\nBe kind.\n\nHello", USER)
