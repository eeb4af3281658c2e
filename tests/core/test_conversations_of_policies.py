"""Chat templates and reasoning parsers of policies, without an engine."""

import copy
import re
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from rsalign import Aligner, ConfigError, Message, Plain, Prompt
from rsalign.core.text.chat_options import ChatOptions
from rsalign.core.text.reasoning import Reasoning, has_thought
from rsalign.embedded import POLICY
from rsalign.engines.vllm.known_reasoning import known_parser
from rsalign.policies.conversations import Conversations
from rsalign.policies.reading import ReadsText
from rsalign.policies.tokenization import Tokenization
from rsalign.policies.vllm_model import VllmModel
from rsalign.rewards.judge_thinking import encode_without_thought
from rsalign.testing import ToyPolicy, ToyReward

SYSTEM, USER = Message("system", "Be brief."), Message("user", "Hello")
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if tools %}{{ date_string }}|{% endif %}{% for m in messages %}{{ m['content'] }}|"
    "{% endfor %}"
)
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}"
    "{% endfor %}"
)
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>"]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.add_special_tokens({"extra_special_tokens": [*HARMONY, "<|call|>"]})
    return tokenizer


class Spoken(ReadsText, ToyPolicy):
    """A toy that draws its tokens as text of a real tokenizer."""

    tokenization = None

    def __init__(self, tokenization):
        super().__init__(vocab=50)
        object.__setattr__(self, "tokenization", tokenization)


def test_a_template_that_refuses_costs_one_prompt_and_says_which_roles(tokenizer):
    policy = Spoken(Tokenization(tokenizer, 999, chat_template=STRICT))
    given = [[SYSTEM, USER], [USER], [USER, USER]]
    with Aligner(policy, ToyReward(), Plain(max_tokens=2)) as aligner:
        first, second, third = aligner.chat(given, on_error="return", use_tqdm=False)
        assert "System role not supported" in str(first.error)
        assert "roles are system, user: if it is the system message" in str(first.error)
        assert "merge_system=True" in str(first.error)
        assert second.finished
        assert re.search("roles must alternate.*user, user: let user and", str(third.error))
        with pytest.raises(ConfigError, match="prompt 0: the chat template refuses"):
            aligner.chat(given, use_tqdm=False)
    with Aligner(policy, None, Plain(max_tokens=2), chat_options={"merge_system": True}) as merging:
        first, _, third = merging.chat(given, on_error="return", use_tqdm=False)
        assert policy.text(tuple(first.prompt_token_ids)) == "[user]Be brief.\n\nHello"
        assert "roles must alternate" in str(third.error)


def test_a_template_that_writes_the_day_says_so_and_a_journal_keeps_it(
    tokenizer, tmp_path, monkeypatch
):
    policy = Spoken(Tokenization(tokenizer, 999, chat_template=DATED))
    tool = [{"type": "function", "function": {"name": "f"}}]

    def chat(journal=None, options=None, **call):
        with Aligner(
            policy, None, Plain(max_tokens=2), journal=journal, chat_options=options
        ) as aligner:
            (output,) = aligner.chat([USER], use_tqdm=False, **call)
            text = policy.text(tuple(output.prompt_token_ids))
            return text, " ".join(output.alignment.warnings)

    monkeypatch.setattr("rsalign.core.journal.today", lambda: "2026-11-30")
    assert chat() == ("Hello|", "")  # without tools this template writes no date
    _, warning = chat(tools=tool)
    assert "Give ChatOptions(date='" in warning
    assert chat(tools=tool, options={"date": "2020-02-03"}) == ("03 Feb 2020|Hello|", "")
    told = {"chat_template_kwargs": {"date_string": "long ago"}}
    assert chat(tools=tool, **told) == ("long ago|Hello|", "")
    journal = tmp_path / "journal"
    assert chat(journal, tools=tool) == ("30 Nov 2026|Hello|", "")
    monkeypatch.setattr("rsalign.core.journal.today", lambda: "2026-12-01")
    assert chat(journal, tools=tool) == ("30 Nov 2026|Hello|", "")
    assert chat(tmp_path / "new", tools=tool) == ("01 Dec 2026|Hello|", "")


def test_a_prompt_has_options_of_its_own_and_a_policy_without_them_is_told(tokenizer):
    policy = Spoken(Tokenization(tokenizer, 999, chat_template="{{ a }}{{ b }}{{ c }}"))
    own = {"messages": [USER], "chat_template_kwargs": {"b": 2}}
    options = ChatOptions(chat_template_kwargs={"a": 1, "b": 1})
    with Aligner(policy, None, Plain(max_tokens=2), chat_options=options) as aligner:
        (output,) = aligner.generate(own, use_tqdm=False)
        assert policy.text(tuple(output.prompt_token_ids)) == "12"
        (output,) = aligner.chat([USER], chat_template_kwargs={"c": 3}, use_tqdm=False)
        assert policy.text(tuple(output.prompt_token_ids)) == "113"
        with pytest.raises(ConfigError, match=r"tools=.*is for a chat template"):
            aligner.generate({"prompt": "Hello", "tools": [{}]}, use_tqdm=False)

    class Old(ToyPolicy):
        def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
            return (1,)

    with Aligner(Old(), None, Plain(max_tokens=2)) as aligner:
        assert aligner.chat([USER], use_tqdm=False)[0].finished
        with pytest.raises(ConfigError, match="unexpected keyword argument 'template_kwargs'"):
            aligner.chat([USER], reasoning_effort="low", use_tqdm=False)


def test_text_that_was_rendered_already_is_warned_about_once(tokenizer):
    template = "{{ bos_token }}{% for m in messages %}<|end|>[{{ m['role'] }}] {{ m['content'] }}"
    conversations = Conversations(tokenizer, chat_template=template + "{% endfor %}")
    assert conversations.find_mark("What is [user] of <b>bold</b>?") is None
    assert conversations.find_mark("a <|end|> b") == "<|end|>"
    assert conversations.find_mark("<|start|>") is None  # which this template does not write
    plain = Conversations(
        tokenizer, chat_template="{% for m in messages %}[INST] {{ m['content'] }}{% endfor %}"
    )
    assert plain.find_mark("[INST] Hello") == "[INST]"
    assert plain.find_mark(f"{tokenizer.bos_token}Hello") == tokenizer.bos_token
    word = Conversations(
        tokenizer, chat_template="{% for m in messages %}user {{ m['content'] }}{% endfor %}"
    )
    assert word.find_mark("a user of it") is None


def divide(tokenizer, parser, text, *, prompt="Hello", complete=True, variables=None, **how):
    tokens = tuple(tokenizer.encode(text, add_special_tokens=False))
    shown = tokenizer.decode(tokens, skip_special_tokens=True)
    before = tuple(tokenizer.encode(prompt, add_special_tokens=False))
    asked = Prompt((USER,), before, ChatOptions(chat_template_kwargs=variables or {}))
    tokenization = Tokenization(tokenizer, 999, reasoning=Reasoning(parser, **how))
    return tokenization.divide(asked, tokens, shown, complete=complete)


@pytest.mark.parametrize("parser", ["qwen3", "deepseek_r1"])
def test_the_parsers_of_vllm_find_the_thought(tokenizer, parser):
    assert divide(tokenizer, parser, "<think>2 and 2</think>4") == ("4", "2 and 2")
    opened = divide(tokenizer, parser, "2 and 2</think>4", prompt="Hello<think>")
    assert opened == ("4", "2 and 2")
    for complete, read in ((True, ""), (False, "2 and")):
        assert divide(tokenizer, parser, "<think>2 and", complete=complete) == (read, "2 and")
    unread = divide(tokenizer, parser, "<think>2", complete=False, judge_thought=False)
    assert unread == ("", "2")
    whole = divide(tokenizer, parser, "<think>2</think>4", keep=True)
    assert whole == ("<think>2</think>4", "2")
    # the template closed the thought
    closed = divide(tokenizer, parser, "4", prompt="Hello<think></think>")
    assert closed == ("4", None)


def test_a_model_that_was_told_not_to_think_has_no_thought(tokenizer):
    told = {"enable_thinking": False}
    assert divide(tokenizer, "qwen3", "4", variables=told) == ("4", None)
    assert divide(tokenizer, "deepseek_v3", "4") == ("4", None)
    thinks = divide(tokenizer, "deepseek_v3", "2</think>4", variables={"thinking": True})
    assert thinks == ("4", "2")


def test_harmony_is_divided_by_its_special_tokens(tokenizer):
    analysis = "<|channel|>analysis<|message|>2 and 2<|end|>"
    final = "<|start|>assistant<|channel|>final<|message|>4"
    call = "<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}"

    def read(text, **how):
        return divide(tokenizer, "openai_gptoss", text, **how)

    assert read(analysis + final) == ("4", "2 and 2")
    assert read(analysis + final, keep=True) == ("2 and 2\n\n4", "2 and 2")
    assert read(analysis + call) == ("add({})", "2 and 2")
    assert read(final) == ("4", None)
    assert read(analysis) == ("", "2 and 2")
    assert read("<|channel|>analysis<|message|>2 and", complete=False) == ("2 and", "2 and")
    assert read("<|channel|>analysis") == ("", None)
    assert read("just text") == ("just text", None)


THINKING = (
    "{{ messages[0]['content'] }}{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}"
)


def test_a_judge_that_weighs_choices_does_not_think_first(tokenizer):
    told = Tokenization(tokenizer, 99, chat_template=THINKING, reasoning=Reasoning("qwen3"))
    asked = encode_without_thought(Spoken(told), (USER,))
    assert tokenizer.decode(asked) == "Hello<think></think>"
    always = Tokenization(
        tokenizer, 99, chat_template=THINKING.partition("{%")[0], reasoning=Reasoning("deepseek_r1")
    )
    with pytest.raises(ConfigError, match="whose thought comes before any choice"):
        encode_without_thought(Spoken(always), (USER,))
    assert encode_without_thought(ToyPolicy(), (Message("user", "1 2"),)) == (1, 2)


def test_a_parser_that_does_not_fit_is_refused_at_once(tokenizer):
    with pytest.raises(ConfigError, match=r"reasoning_parser='qwen33'.*there are .*qwen3,"):
        Tokenization(tokenizer, 9, reasoning=Reasoning("qwen33"))
    bare = AutoTokenizer.from_pretrained(POLICY)
    for parser in ("deepseek_r1", "openai_gptoss"):
        with pytest.raises(ConfigError, match="does not fit the model's tokenizer"):
            Tokenization(bare, 9, reasoning=Reasoning(parser))
    assert not Tokenization(bare, 9, reasoning=Reasoning("none")).divides
    with pytest.raises(ConfigError, match=r"ToyPolicy has no with_reasoning\(\)"):
        Aligner(ToyPolicy(), None, Plain(), reasoning_parser="qwen3")


SWITCH = (
    "{{ messages[0]['content'] }}|{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}"
)
BEGINS = (
    "{{ messages[0]['content'] }}|{% if add_generation_prompt %}<think>{% endif %}{# </think> #}"
)
R1 = "<\uff5cAssistant\uff5c>{{ messages[0]['content'].split('</think>')[-1] }}"


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("model_type", "template", "expected"),
    [
        ("qwen3", SWITCH, "qwen3"),
        ("qwen3_moe", BEGINS, "qwen3"),
        ("qwen3", "{{ messages[0]['content'].split('</think>')[-1] }}", ""),  # does not think
        ("qwen3", "{{ messages[0]['content'] }}", ""),
        ("qwen3", "{{ raise_exception('no') }}</think>", ""),
        ("qwen2", SWITCH, ""),  # vLLM has no parser of this name
        ("glm4_moe", SWITCH, "glm45"),
        ("mistral", SWITCH, ""),  # whose parser needs Mistral's tokenizer
        ("llama", R1 + "<think>", "deepseek_r1"),
        ("deepseek_v3", R1 + "{% if thinking %}<think>{% endif %}", "deepseek_v3"),
    ],
)
def test_the_parser_of_a_model_is_known_where_its_files_say_so(
    tokenizer, model_type, template, expected
):
    asking = copy.copy(tokenizer)
    asking.chat_template = template
    assert known_parser(model_type, asking) == expected


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("1|", "<think>hm</think>4", ("4", "hm")),
        ("1|", "4", ("4", None)),
        ("1|", "<think>hm", ("", "hm")),
        ("1|<think>", "hm</think>4", ("4", "hm")),
        ("1|<think>", "hm", ("", "hm")),
        ("1|<think></think>", "4", ("4", None)),
    ],
)
def test_an_answer_without_a_thought_is_no_thought(tokenizer, prompt, text, expected):
    """Where nobody has named the parser: vLLM's own calls all of it a thought, and it is lost."""
    reader = Tokenization(tokenizer, 99, reasoning=Reasoning("qwen3"), assumed=True)
    tokens, asked = reader.encode(text), Prompt((USER,), reader.encode(prompt))
    assert reader.divide(asked, tokens, text, complete=True) == expected
    named = replace(reader, assumed=False)
    if text == "4" and prompt == "1|":
        assert named.divide(asked, tokens, text, complete=True) == ("", "4")
    else:
        assert named.divide(asked, tokens, text, complete=True) == expected


def test_text_that_may_still_become_a_thought_is_none_yet():
    for text in ("", "\n", "<thi", "<think>"):
        assert has_thought("1|", text)
        assert has_thought("1|<think></think>", text) == (text == "<think>")
    assert not has_thought("1|", "4 <thi")


def test_a_model_divides_by_the_parser_that_it_needs_unless_told_otherwise(tokenizer, caplog):
    told = Tokenization(tokenizer, 99)
    model = VllmModel(told, True, frozenset(), None, None, (), known_parser="qwen3")
    with caplog.at_level("WARNING", "rsalign.policies.vllm_model"):
        by_itself = model.with_reasoning(None).tokenization
    assert (by_itself.reasoning, by_itself.assumed) == (Reasoning("qwen3"), True)
    assert "'qwen3'" in caplog.text
    named = model.with_reasoning(Reasoning("qwen3", keep=True)).tokenization
    assert (named.reasoning.keep, named.assumed) == (True, False)
    assert not model.with_reasoning(Reasoning("none")).tokenization.divides
    started = replace(model, parser="deepseek_r1").with_reasoning(None).tokenization
    assert (started.reasoning.parser, started.assumed) == ("deepseek_r1", False)
    assert replace(model, known_parser="").with_reasoning(None).tokenization == told
