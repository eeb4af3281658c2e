"""Whatever a body holds, it is answered or refused: no 5xx, and every refusal in OpenAI's form."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from serving import CARDS, KEY

pytestmark = pytest.mark.engine

PATHS = {"/v1/completions": {"prompt": "Hi"}, "/v1/chat/completions": {"messages": []}}
PATHS["/v1/chat/completions"]["messages"] = [{"role": "user", "content": "Hi"}]
FIELDS = [
    *("model", "prompt", "messages", "n", "seed", "stop", "max_tokens", "max_completion_tokens"),
    *("logprobs", "top_logprobs", "temperature", "top_p", "top_k", "min_p", "logit_bias", "echo"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "stream", "stream_options"),
    *("suffix", "user", "use_beam_search", "stop_token_ids", "include_stop_str_in_output"),
    *("ignore_eos", "min_tokens", "skip_special_tokens", "truncate_prompt_tokens", "priority"),
    *("allowed_token_ids", "prompt_logprobs", "logprob_token_ids", "bad_words", "session_id"),
    *("add_special_tokens", "response_format", "structured_outputs", "request_id", "cache_salt"),
    *("return_token_ids", "vllm_xargs", "rsalign", "tools", "tool_choice", "chat_template"),
    *("chat_template_kwargs", "add_generation_prompt", "continue_final_message", "documents"),
    *("kv_transfer_params", "return_tokens_as_token_ids", "repetition_detection", "prompt_embeds"),
    *("thinking_token_budget", "stream_interval", "reasoning_effort", "include_reasoning"),
]
WORDS = [
    *("type", "role", "content", "name", "function", "text", "json_schema", "schema", "url"),
    *("strategy", "n", "include_usage", "rsalign", "rsalign_n", "inner", "budget", "seconds"),
    *("rsalign_guided_alpha", "rsalign_guided_alpha_1", "rsalign_statistics", "rsalign_marks"),
    *("rsalign_arithmetic_n", "rsalign_arithmetic_seed", "rsalign_sentinel"),
    *("rsalign_entropy_threshold", "rsalign_entropy_min_tokens", "rsalign_marks_min_tokens"),
    *("rsalign_segmenter", "rsalign_segmenter.min_tokens", "rsalign_segmenter.max_tokens"),
]
GREAT = [str(2**31), str(2**63), str(10**30), "1e300", "-1e300"]
ODD = ["", "\ud800", "\x00", "a" * 2000, 10**30, -1, 1e308, 0, 1, 2, 0.5, "1", "auto", "required"]
ODD += GREAT
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
JSON = st.recursive(
    PLAIN | st.sampled_from(ODD),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
STRATEGIES = [None, "plain", "best_of", CARDS, {"strategy": "best_of", "n": 2}, "nope", 5]
MESSAGE = st.dictionaries(
    st.sampled_from(["role", "content", "name", "tool_calls", "tool_call_id", "refusal"]),
    JSON | st.sampled_from(["user", "system", "assistant", "tool"]),
    max_size=4,
)

fuzzed = settings(  # how many, and whether always the same: see the profiles in tests/conftest.py
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def post(server):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with httpx.Client(base_url=server.address, timeout=60, headers=headers) as client:
        yield lambda path, body: client.post(
            path, content=body if isinstance(body, bytes) else json.dumps(body).encode()
        )


def check(answer):
    """No 5xx, in a stream neither; every error is an object in OpenAI's form."""
    assert answer.status_code < 500, answer.text
    errors = []
    if answer.status_code >= 400:
        errors = [answer.json()["error"]]
    elif answer.headers["Content-Type"].startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in answer.text.split("\n\n")]
        errors = [json.loads(each)["error"] for each in events if each.startswith('{"error"')]
    for error in errors:
        assert {"message", "type", "param", "code"} <= set(error)
        assert 400 <= error["code"] < 500


@fuzzed
@given(
    st.sampled_from([*PATHS]),
    st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3),
    st.sampled_from(STRATEGIES),
    st.booleans(),
)
def test_fields_of_any_type(post, path, changes, rsalign, stream):
    asked = {} if rsalign is None else {"rsalign": rsalign}
    body = {"model": "tiny", "max_tokens": 4, "stream": stream} | PATHS[path] | asked | changes
    check(post(path, body))


NUMBERS = st.sampled_from([-2, -1, 0, 1, 2, 3, 48, 10**6, 10**20, 0.5, 1e-7, 2.5, -0.5, 1e300])
PLAUSIBLE = {
    **dict.fromkeys(
        [
            *("n", "seed", "max_tokens", "logprobs", "top_logprobs", "temperature", "top_p"),
            *("top_k", "min_p", "frequency_penalty", "repetition_penalty", "min_tokens"),
            *("prompt_logprobs", "truncate_prompt_tokens", "priority", "stream_interval"),
        ],
        NUMBERS,
    ),
    **dict.fromkeys(
        ["stop_token_ids", "allowed_token_ids", "logprob_token_ids"], st.lists(NUMBERS)
    ),
    **dict.fromkeys(["stop", "bad_words"], st.lists(st.text(max_size=3), max_size=5)),
    **dict.fromkeys(["echo", "ignore_eos", "use_beam_search", "logprobs"], st.booleans()),
    "logit_bias": st.dictionaries(st.integers(-2, 2000).map(str), NUMBERS, max_size=3),
    "prompt": st.text(max_size=9) | st.lists(st.integers(-1, 2000), max_size=4),
    "response_format": st.sampled_from([{"type": "json_object"}, {"type": "json_schema"}, {}]),
    "vllm_xargs": st.dictionaries(
        st.sampled_from(WORDS), NUMBERS | st.sampled_from([*WORDS, *GREAT])
    ),
    "rsalign": st.fixed_dictionaries(
        {"strategy": st.sampled_from(["plain", "best_of", "qalign", "quest", "power"])},
        optional={
            "n": NUMBERS,
            "steps": NUMBERS,
            "max_tokens": NUMBERS,
            "budget": st.dictionaries(st.sampled_from(["seconds", "policy_tokens"]), NUMBERS),
        },
    ),
}


FEW = st.lists(st.sampled_from([*PLAUSIBLE]), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: PLAUSIBLE[name] for name in names})
)


@fuzzed
@given(st.sampled_from([*PATHS]), FEW, st.sampled_from(STRATEGIES), st.booleans())
def test_values_out_of_range(post, path, changes, rsalign, stream):
    asked = {} if rsalign is None else {"rsalign": rsalign}
    body = {"model": "tiny", "max_tokens": 4, "stream": stream} | PATHS[path] | asked | changes
    if "response_format" in body:  # a form that no allowed token has is no malformed request
        body.pop("allowed_token_ids", None)
    check(post(path, body))


@fuzzed
@given(st.lists(MESSAGE | JSON, max_size=3), st.sampled_from(STRATEGIES))
def test_messages_of_any_form(post, messages, rsalign):
    asked = {} if rsalign is None else {"rsalign": rsalign}
    body = {"model": "tiny", "max_tokens": 4, "messages": messages} | asked
    check(post("/v1/chat/completions", body))


@fuzzed
@given(
    st.sampled_from([*PATHS]), st.binary(max_size=60) | JSON.map(lambda x: json.dumps(x).encode())
)
def test_bodies_that_are_no_requests(post, path, body):
    check(post(path, body))


def test_nothing_is_left_and_the_server_answers(server, post):
    assert not any(server.settled().values())
    body = {"model": "tiny:best_of", "max_tokens": 4} | PATHS["/v1/completions"]
    assert post("/v1/completions", body).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/nothing", 404), ("/v1/completions", 405), ("/v1/models", 200)]
)
def test_other_addresses(server, path, status):
    found, text = server.get(path)
    assert found == status
    assert status == 200 or json.loads(text)["error"]["code"] == status
