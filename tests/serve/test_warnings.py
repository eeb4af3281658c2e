"""What the user should know comes with the answer: a greedy law has one, whatever was asked."""

import json

import pytest
from serving import CARDS, MESSAGES

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("law", [{"temperature": 0}, {"top_k": 1}], ids=str)
@pytest.mark.parametrize(
    ("rsalign", "said"),
    [
        ({"strategy": "best_of", "n": 8}, "1 candidate was drawn instead of 8"),
        ({"strategy": "qalign", "steps": 30, "chains": 2}, "30 steps were not made"),
        ({"strategy": "rejection", "beta": 1.0, "bound": 99.0}, "not up to 64 times"),
    ],
    ids=["best_of", "qalign", "rejection"],
)
def test_one_draw_and_a_warning(server, law, rsalign, said):
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 64, "seed": 3} | law
    answers = []
    for stream in (False, True):
        status, text, _ = server.ask(
            "/v1/chat/completions", body | {"rsalign": rsalign, "stream": stream}
        )
        assert status == 200, text
        if stream:
            events = [line[6:] for line in text.split("\n\n") if line.startswith("data: {")]
            (report,) = [json.loads(e)["rsalign"] for e in events if "rsalign" in json.loads(e)]
        else:
            report = json.loads(text)["rsalign"]
        assert report["drawn"] == report["kept"] > 0
        assert report["reward_calls"] == 1
        assert any(said in warning for warning in report["warnings"])
        answers.append(report["reward"])
    assert answers[0] == answers[1]


def test_segments_are_drafted_once(server):
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 64, "temperature": 0}
    status, text, _ = server.ask("/v1/chat/completions", body | {"rsalign": CARDS})
    report = json.loads(text)["rsalign"]
    assert status == 200
    assert report["drawn"] == report["kept"]
    assert any("drafted once each" in warning for warning in report["warnings"])


@pytest.mark.parametrize("stream", [False, True])
def test_choices_that_can_only_be_equal_cost_one(server, stream):
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 64, "top_k": 1, "n": 3}
    rsalign = {"strategy": "best_of", "n": 4}
    status, text, _ = server.ask(
        "/v1/chat/completions", body | {"rsalign": rsalign, "stream": stream}
    )
    assert status == 200, text
    if stream:
        events = [json.loads(e[6:]) for e in text.split("\n\n") if e.startswith("data: {")]
        report = events[-1]["rsalign"]
        said = [
            "".join(
                choice["delta"].get("content") or ""
                for event in events
                for choice in event["choices"]
                if choice["index"] == i
            )
            for i in range(3)
        ]
    else:
        answer = json.loads(text)
        report, said = answer["rsalign"], [c["message"]["content"] for c in answer["choices"]]
    assert len(set(said)) == 1
    assert said[0]
    assert report["reward_calls"] == 1
    assert report["drawn"] == report["kept"] > 0
    assert any("is returned 3 times" in warning for warning in report["warnings"])


def test_a_draw_that_may_differ_has_no_warning(server):
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 64}
    status, text, _ = server.ask("/v1/chat/completions", body | {"rsalign": "best_of"})
    assert status == 200
    assert json.loads(text)["rsalign"]["warnings"] == []


def test_a_budget_ends_in_the_vote_that_was_asked_for(server):
    """Not in an error, and not in the highest reward."""
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 64, "seed": 1}
    rsalign = {
        "strategy": "best_of",
        "n": 64,
        "select": {"name": "majority_vote", "extract": "last_number"},
        "budget": {"policy_tokens": 400},
    }
    status, text, _ = server.ask("/v1/chat/completions", body | {"rsalign": rsalign})
    answer = json.loads(text)
    assert status == 200, text
    assert answer["rsalign"]["expired"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert 1 < answer["rsalign"]["diagnostics"]["effective_sample_size"] < 64
