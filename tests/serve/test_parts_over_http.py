"""Over HTTP: named parts, components of rewards, abstentions, and each kind of population."""

import json

import pytest
from serving import MESSAGES

pytestmark = pytest.mark.engine

KNOCKOUT = {"strategy": "best_of", "n": 4, "select": "knockout"}
EIGHT = {"name": "fixed_size", "n": 8}
GIBBS = {"name": "particle_gibbs", "n": 3, "segmenter": EIGHT}
POPULATIONS = {
    "particles": {"strategy": "particles", "n": 4, "segmenter": EIGHT},
    "beam": {"strategy": "beam", "width": 2, "branch": 2, "segmenter": EIGHT},
    "dvts": {"strategy": "dvts", "subtrees": 2, "branch": 2, "segmenter": EIGHT},
    "early_drop": {"strategy": "early_drop", "n": 4, "first": 8},
    "particle_gibbs": {"strategy": "qalign", "steps": 4, "moves": [GIBBS]},
}


def ask(server, rsalign, *, text="", stream=False, n=1, **more):
    """The status, the choices by number (joined if streamed), and the block."""
    messages = [*MESSAGES[:-1], MESSAGES[-1] | {"content": f"{MESSAGES[-1]['content']} {text}"}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 48, "seed": 3, "n": n} | more
    body |= {"rsalign": rsalign, "stream": stream}
    status, raw, _ = server.ask("/v1/chat/completions", body)
    if status != 200:
        return status, raw, {}
    if not stream:
        whole = json.loads(raw)
        found = [
            (one["message"]["content"] or "", one["finish_reason"], one["stop_reason"])
            for one in whole["choices"]
        ]
        return status, found, whole["rsalign"]
    events = [json.loads(one[6:]) for one in raw.split("\n\n") if one.startswith("data: {")]
    texts, ends = [""] * n, [None] * n
    for one in (choice for event in events for choice in event["choices"]):
        texts[one["index"]] += one["delta"].get("content") or ""
        if one["finish_reason"]:
            ends[one["index"]] = (one["finish_reason"], one["stop_reason"])
    (block,) = [event["rsalign"] for event in events if "rsalign" in event]
    return status, [(text, *end) for text, end in zip(texts, ends, strict=True)], block


def metric(server, name, **labels):
    _, text, _ = server.ask("/metrics", None)
    found = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(f"rsalign:{name}_total{{")
        and all(f'{key}="{value}"' in line for key, value in labels.items())
    ]
    return sum(found)


def test_a_request_uses_a_part_of_the_server_by_name(server):
    before = metric(server, "part_reward_calls", part="judge")
    status, choices, block = ask(server, KNOCKOUT)
    assert status == 200, choices
    assert block["parts"] == {"judge": {"reward_calls": 3}}
    assert block["diagnostics"]["num_comparisons"] == 3
    assert metric(server, "part_reward_calls", part="judge") == before + 3
    same = KNOCKOUT | {"select": {"name": "knockout", "judge": "judge"}}
    assert ask(server, same)[1] == choices
    _, _, block = ask(server, KNOCKOUT | {"budget": {"parts": {"judge": {"reward_calls": 2}}}})
    assert block["expired"]
    assert block["parts"]["judge"]["reward_calls"] <= 2
    _, _, block = ask(server, KNOCKOUT, n=2)
    assert block["parts"]["judge"]["reward_calls"] == 6
    assert [one["parts"]["judge"]["reward_calls"] for one in block["choices"]] == [3, 3]


def test_what_a_request_cannot_have_is_refused(server):
    for rsalign, says in {
        "jury": "needs the part 'jury', and this server has judge",
        "pairwise_judge": "a request cannot name a judge",
        "rsalign.testing:ToyReward": "a request cannot name a judge",
    }.items():
        asked = KNOCKOUT | {"select": {"name": "knockout", "judge": rsalign}}
        status, text, _ = ask(server, asked)
        assert status == 400
        assert says in json.loads(text)["error"]["message"]
    status, text, _ = ask(server, KNOCKOUT, text="FAIL THE JUDGE")
    assert status == 503
    assert "secret" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_not_given(server, stream):
    before = metric(server, "answers_abstained", strategy="best_of")
    rsalign = {"strategy": "best_of", "n": 2}
    status, ((text, reason, why),), block = ask(server, rsalign, text="FORBIDDEN", stream=stream)
    assert (status, text, reason) == (200, "", "abstained")
    assert "allowed" in why
    assert block["abstained"]
    assert block["reward"] is None
    assert not block["expired"]
    assert any("there is no answer" in warning for warning in block["warnings"])
    assert metric(server, "answers_abstained", strategy="best_of") == before + 1
    assert not ask(server, rsalign, stream=stream)[2]["abstained"]


def test_the_other_endpoints_say_that_there_is_no_answer(server):
    asked = {"rsalign": {"strategy": "best_of", "n": 2}, "model": "tiny"}
    for path, body in {
        "/v1/completions": {"prompt": "FORBIDDEN", "max_tokens": 8},
        "/v1/responses": {"input": "FORBIDDEN", "max_output_tokens": 8},
        "/v1/messages": {"messages": [{"role": "user", "content": "FORBIDDEN"}], "max_tokens": 8},
    }.items():
        status, text, _ = server.ask(path, body | asked)
        assert status == 200, (path, text)
        answered = json.loads(text)
        if path == "/v1/messages":  # whose form has no place for the block
            assert not "".join(one["text"] for one in answered["content"])
            assert answered.get("stop_reason") is None
        else:
            assert answered["rsalign"]["abstained"]


def test_components_of_the_reward_are_shown(server):
    status, _, block = ask(server, {"strategy": "best_of", "n": 2}, text="COMPONENTS", n=2)
    assert status == 200
    assert block["components"]["judged"] == block["reward"]
    assert [one["components"]["length"] for one in block["choices"]] == [
        one["kept"] for one in block["choices"]
    ]
    assert "components" not in ask(server, {"strategy": "best_of", "n": 2})[2]


@pytest.mark.parametrize("name", POPULATIONS)
def test_populations_answer_requests(server, name):
    status, choices, block = ask(server, POPULATIONS[name])
    assert status == 200, choices
    ((text, reason, _),) = choices
    assert text
    assert reason in ("stop", "length")
    assert block["drawn"] >= block["kept"] > 0
    assert block["reward_calls"] > 0
    status, streamed, again = ask(server, POPULATIONS[name], stream=True)
    assert status == 200, streamed
    assert streamed == choices
    assert again["reward"] == pytest.approx(block["reward"], abs=1e-4)
