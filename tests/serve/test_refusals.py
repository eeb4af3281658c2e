"""What cannot be had is refused with a status of 4xx, in OpenAI's form, streamed or not."""

import json

import pytest
from serving import CARDS, MESSAGES, QUESTION

pytestmark = pytest.mark.engine

REFUSED = {
    "unknown strategy": ({"rsalign": "nope"}, "no strategy is called 'nope'"),
    "unknown parameter": ({"rsalign": {"strategy": "best_of", "m": 1}}, "no parameter 'm'"),
    "code": ({"rsalign": {"strategy": "os:system"}}, "no strategy is called 'os:system'"),
    "code of a part": ({"rsalign": {"strategy": "best_of", "select": "os:abort"}}, "no selector"),
    "path": ({"rsalign": {"strategy": "plain", "policy": "/etc"}}, "no parameter 'policy'"),
    "model": ({"rsalign": {"strategy": "plain", "reward": "org/rm"}}, "no parameter 'reward'"),
    "size": ({"rsalign": {"strategy": "best_of", "n": 10**9}}, "may ask for 4096"),
    "target": ({"rsalign": {k: CARDS[k] for k in ("strategy", "segmenter")}}, "no threshold"),
    "budget": ({"rsalign": {"strategy": "plain", "budget": {"policy_tokens": 7000}}}, "6000"),
    "two strategies": (
        {"rsalign": "plain", "vllm_xargs": {"rsalign": "best_of"}},
        "two strategies",
    ),
    "alias and strategy": ({"rsalign": "plain", "model": "tiny:best_of"}, "two strategies"),
    "other words": ({"rsalign": "plain", "vllm_xargs": {"other": 1}}, "other"),
    "words for no strategy": (
        {"rsalign": {"strategy": "none", "n": 3}},
        "'n' is given, but rsalign",
    ),
    "object for a number": ({"rsalign": {"strategy": "best_of", "n": {}}}, "n={}: must be of type"),
    "truth for seconds": (
        {"rsalign": {"strategy": "plain", "budget.seconds": True}},
        "seconds=True",
    ),
    "no such limit": (
        {"rsalign": {"strategy": "plain", "budget.dollars": 1}},
        "no limit 'dollars'",
    ),
    "long name": ({"rsalign": "x" * 1_000_000}, "no strategy is called 'xxx"),
    "two seeds": ({"rsalign": {"strategy": "plain", "seed": 2}, "seed": 3}, "two seeds, 3 as"),
    "grammar": ({"rsalign": "qalign", "response_format": {"type": "json_object"}}, "grammar"),
    "penalty": ({"rsalign": "qalign", "presence_penalty": 1.0}, "presence_penalty"),
    "words": ({"rsalign": "qalign", "bad_words": ["Ann"]}, "bad_words"),
    "beams": ({"rsalign": "plain", "use_beam_search": True, "n": 2}, "beam search"),
    "temperature": ({"rsalign": "plain", "temperature": 3.0}, "temperature"),
}


def posted(server, path, body, *, stream):
    prompt = {"messages": MESSAGES} if "chat" in path else {"prompt": QUESTION}
    return server.ask(path, {"model": "tiny", "max_tokens": 8, "stream": stream} | prompt | body)


def message_of(status, text):
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    return error["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("case", REFUSED)
def test_with_a_reason(server, path, case, stream):
    body, reason = REFUSED[case]
    status, text, _ = posted(server, path, body, stream=stream)
    assert status == 400, text
    assert reason in message_of(status, text)
    assert len(text) < 1000
    ours = case != "temperature"  # which vLLM itself refuses
    assert json.loads(text)["error"]["param"] == ("rsalign" if ours else case)


def test_log_probs_in_a_stream(server):
    for path, body in {
        "/v1/chat/completions": {"logprobs": True, "top_logprobs": 2},
        "/v1/completions": {"logprobs": 2},
    }.items():
        status, text, _ = posted(server, path, body | {"rsalign": "plain"}, stream=True)
        assert (status, "logprobs" in message_of(status, text)) == (400, True)


def test_an_image(server):
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    for rsalign in ("best_of", "none"):  # vLLM refuses it, too
        body = {"messages": [{"role": "user", "content": parts}], "rsalign": rsalign}
        status, text, _ = posted(server, "/v1/chat/completions", body, stream=False)
        assert status == 400
        assert message_of(status, text)


def test_text_in_parts_is_text(client):
    def ask(content):
        return client.chat.completions.create(
            model="tiny:best_of", messages=[{"role": "user", "content": content}], seed=1
        )

    whole = ask(QUESTION)
    parts = ask([{"type": "text", "text": QUESTION}])
    assert parts.choices == whole.choices
    assert parts.rsalign["reward"] == whole.rsalign["reward"]


def test_unknown_models_and_wrong_keys(server):
    status, text, _ = server.ask("/v1/completions", {"model": "other:plain", "prompt": "a"})
    assert (status, "does not exist" in message_of(status, text)) == (404, True)
    body = {"model": "tiny:plain", "prompt": "a"}
    assert server.ask("/v1/completions", body, key="wrong")[0] == 401
    assert server.get("/v1/models", key="wrong")[0] == 401
    assert server.get("/health", key="wrong")[0] == 200
