"""What becomes of the fields of vLLM's requests at the endpoints of a server with strategies."""

import json

import pytest
from serving import MESSAGES, QUESTION
from test_refusals import message_of

from rsalign.words.fields import TABLES, Fate

pytestmark = pytest.mark.engine

BEST = {"rsalign": {"strategy": "best_of", "n": 3}}
CHAIN = {"rsalign": {"strategy": "qalign", "steps": 3}}
OTHER = [{"role": "user", "content": "Bob has 2 coins. Bob buys 3 coins. How many does Bob have?"}]
BODIES = {
    "/v1/completions": {"prompt": QUESTION, "max_tokens": 24},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 24},
    "/v1/chat/completions/batch": {"messages": [MESSAGES, OTHER], "max_tokens": 24},
    "/v1/responses": {"input": QUESTION, "max_output_tokens": 24},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 24},
}
SCHEMA = {
    "type": "object",
    "properties": {"total": {"enum": [1, 2, 3]}, "right": {"type": "boolean"}},
    "required": ["total", "right"],
    "additionalProperties": False,
}
COUNT = {"name": "count", "parameters": SCHEMA, "strict": True}
TOOLS = [{"type": "function", "function": COUNT}]
REFUSED = {
    "use_beam_search": True,
    "prompt_logprobs": 1,
    "routed_experts_prompt_start": 1,
    "repetition_detection": {"max_pattern_size": 3, "min_count": 3},
    "watermarking": True,
    "kv_transfer_params": {"a": 1},
    "ec_transfer_params": {"a": 1},
    "prompt_embeds": "YQ==",
    "continue_final_message": True,
    "echo": True,
    "best_of": 4,
}


def posted(server, path, body):
    return server.ask(path, {"model": "tiny"} | BODIES[path] | body)[:2]


def reason_of(path, status, text):
    error = json.loads(text)["error"]
    return error["message"] if path == "/v1/messages" else message_of(status, text)


@pytest.fixture(scope="module")
def newlines():
    """Tokens with a newline, which the tiny model would put between two braces for ever."""
    from transformers import AutoTokenizer

    from rsalign.embedded import POLICY

    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    ids = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    return {str(i): -100 for i in ids}


@pytest.mark.parametrize("path", BODIES)
def test_every_refused_field_says_why(server, path):
    refused = {name for name, row in TABLES[path].items() if row.fate is Fate.REFUSED}
    assert refused <= REFUSED.keys()
    for name in refused:
        body = {name: REFUSED[name]}
        if name == "continue_final_message":
            body["add_generation_prompt"] = False
        status, text = posted(server, path, BEST | body)
        assert status == 400, (name, text)
        reason = reason_of(path, status, text)
        # vLLM's own model of the request may be faster
        assert TABLES[path][name].note in reason or f"set `{name}` to" in reason


@pytest.mark.parametrize("path", BODIES)
def test_fields_that_nobody_knows(server, path):
    for name, says in {"rsaling": "did you mean 'rsalign'", "surprise": "surprise=3"}.items():
        status, text = posted(server, path, BEST | {name: 3})
        assert (status, says in reason_of(path, status, text)) == (400, True)
    status, text = posted(server, path, {"rsaling": {"strategy": "best_of"}})
    assert (status, "did you mean 'rsalign'" in text) == (400, True)
    status, text = posted(server, path, {"best_of": 4})
    assert (status, "ask for the strategy instead" in text) == (400, True)
    assert posted(server, path, {"surprise": 3})[0] == 200  # without a strategy, as vLLM


@pytest.mark.parametrize("path", BODIES)
def test_the_three_ways_to_ask_for_a_strategy(server, path):
    labels = {"strategy": "best_of", "outcome": "finished"}
    answers = 2 if path.endswith("batch") else 1
    for body in (
        BEST,
        {"model": "tiny:best_of"},
        {"vllm_xargs": {"rsalign": "best_of", "rsalign_n": 2}},
    ):
        before = server.metric("rsalign:requests_total", **labels)
        status, text = posted(server, path, body)
        assert status == 200, text
        assert server.metric("rsalign:requests_total", **labels) - before == answers
        content = json.loads(text)
        assert content["model"] == "tiny"
        if path != "/v1/messages":  # whose form has no place for it
            assert content["rsalign"]["strategy"] == "best_of"
            drawn = content["usage"].get("completion_tokens", content["usage"].get("output_tokens"))
            assert drawn == content["rsalign"]["drawn"]
    before = server.metric("rsalign:requests_total", **labels)
    assert posted(server, path, {"rsalign": "none"})[0] == 200
    assert server.metric("rsalign:requests_total", **labels) == before
    status, text = posted(server, path, {"rsalign": "nonsense"})
    assert (status, "no strategy is called 'nonsense'" in text) == (400, True)


@pytest.mark.parametrize("path", BODIES)
def test_streams_are_answered_by_the_strategy(server, path):
    if path.endswith("batch"):
        return  # it has no streams
    labels = {"strategy": "best_of", "outcome": "finished"}
    before = server.metric("rsalign:requests_total", **labels)
    # of all draws one in forty ends before it comes to its answer
    fixed = {"seed": 1} if "seed" in TABLES[path] else {"temperature": 0}
    status, text = posted(server, path, BEST | fixed | {"stream": True})
    assert (status, "Answer" in text) == (200, True)
    assert server.metric("rsalign:requests_total", **labels) - before == 1


def test_the_reward_is_told_the_conversation(server):
    """And not the policy's template: its value is the same at every endpoint."""
    rewards = {}
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/chat/completions/batch"):
        body = {"rsalign": "plain", "temperature": 0}
        if path.endswith("batch"):
            body["messages"] = [MESSAGES]
        status, text = posted(server, path, body)
        assert status == 200, text
        rewards[path] = json.loads(text)["rsalign"]["reward"]
    assert len(set(rewards.values())) == 1, rewards


def test_aliases_where_there_is_no_strategy(server):
    for path, body in {
        "/tokenize": {"prompt": "Ann"},
        "/detokenize": {"tokens": [9]},
        "/v1/messages/count_tokens": {"messages": MESSAGES},
    }.items():
        plain = server.ask(path, {"model": "tiny"} | body)[:2]
        assert plain[0] == 200, plain
        assert server.ask(path, {"model": "tiny:best_of"} | body)[:2] == plain
    status, text = server.ask(
        "/generative_scoring",
        {"model": "tiny:best_of", "query": "a", "items": ["b"], "label_token_ids": [9]},
    )[:2]
    assert (status, "give model='tiny'" in text) == (400, True)


FREE = {
    "priority": 3,
    "cache_salt": "salt",
    "user": "somebody",
    "metadata": {"a": "b"},
    "store": True,
    "watermarking": False,
    "session_id": "session",
    "truncate_prompt_tokens": 20,
    "return_token_ids": True,
    "include_reasoning": False,
    "documents": [{"title": "a"}],
    "chat_template_kwargs": {"a": 1},
    "reasoning_effort": "low",
    "stream_options": None,
}


@pytest.mark.parametrize("strategy", [BEST, CHAIN])
def test_what_has_nothing_to_do_with_the_law_is_taken(server, strategy):
    for name, value in FREE.items():
        status, text = posted(server, "/v1/chat/completions", strategy | {name: value})
        assert status == 200, (name, text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 1.0),
        ("frequency_penalty", 0.5),
        ("bad_words", ["Ann"]),
        ("response_format", {"type": "json_object"}),
        ("structured_outputs", {"regex": "[0-9]"}),
    ],
)
def test_methods_that_cut_answers_refuse_what_needs_whole_ones(server, field, value):
    status, text = posted(server, "/v1/chat/completions", CHAIN | {field: value})
    assert (status, "continues answers from the middle" in text) == (400, True)
    assert posted(server, "/v1/chat/completions", BEST | {field: value})[0] == 200


def chat(server, **body):
    status, text = posted(server, "/v1/chat/completions", {"seed": 5} | body)
    assert status == 200, text
    return json.loads(text)


def test_each_of_these_has_its_effect(server):
    def content(**body):
        return chat(server, **BEST | body)["choices"][0]["message"]["content"]

    usual = content()
    first = usual.split()[0]
    assert not content(bad_words=["So", "Now", "Next", "Then"]).startswith(("So", "N", "Then"))
    assert content(structured_outputs={"choice": ["yes", "no"]}) in ("yes", "no")
    assert content(stop=["+"], include_stop_str_in_output=True).endswith("+")
    assert content(skip_special_tokens=False, return_token_ids=True).startswith(first)
    longer = chat(server, **BEST, min_tokens=24, return_token_ids=True)
    assert len(longer["choices"][0]["token_ids"]) == 24
    warm = {"temperature": 1.8}  # the model is too certain of its words otherwise
    assert content(**warm, presence_penalty=2.0, frequency_penalty=2.0) != content(**warm)
    cut = chat(server, **CHAIN, min_tokens=24, return_token_ids=True)
    assert len(cut["choices"][0]["token_ids"]) == 24


def test_json_by_a_schema(server, newlines):
    given = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    answer = chat(
        server, **BEST, response_format=given, logit_bias=newlines, max_tokens=80, top_p=0.9
    )
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert list(json.loads(choice["message"]["content"])) == ["total", "right"]
    assert answer["rsalign"]["reward_calls"] == 3


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "count"}}]
)
def test_a_tool_that_is_required(server, newlines, choice):
    answer = chat(
        server,
        **BEST,
        tools=TOOLS,
        tool_choice=choice,
        logit_bias=newlines,
        max_tokens=120,
        top_p=0.9,
    )
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "count"
    assert set(json.loads(call["function"]["arguments"])) == {"total", "right"}
    assert answer["rsalign"]["strategy"] == "best_of"


def test_log_probs_of_other_tokens(server):
    answer = chat(server, **BEST, logprobs=True, top_logprobs=3, max_tokens=6)
    content = answer["choices"][0]["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == answer["choices"][0]["message"]["content"]
    for each in content:
        assert len(each["top_logprobs"]) == 3
        assert all(other["logprob"] <= 0 for other in each["top_logprobs"])
    body = BEST | {"logprobs": 2, "max_tokens": 3}
    completion = json.loads(posted(server, "/v1/completions", body)[1])
    assert all(len(t) >= 2 for t in completion["choices"][0]["logprobs"]["top_logprobs"])
    include = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = json.loads(posted(server, "/v1/responses", BEST | include)[1])
    assert all(len(t["top_logprobs"]) == 2 for t in response["output"][0]["content"][0]["logprobs"])


def test_beams_beside_a_strategy_that_is_not_asked_for(server):
    body = {"use_beam_search": True, "n": 2, "rsalign": "none", "temperature": 0}
    status, text = posted(server, "/v1/completions", body)
    assert status == 200, text
