"""A reward that fails or hangs costs the requests that need it, and nothing else."""

import json

import pytest
from serving import CARDS, QUESTION

pytestmark = pytest.mark.engine

AT_THE_END = {"strategy": "best_of", "n": 2}


def posted(server, mood, rsalign, *, stream, **options):
    body = {"strategy": rsalign} if isinstance(rsalign, str) else rsalign
    return server.ask(
        "/v1/chat/completions",
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": f"{mood} {QUESTION}"}],
            "max_tokens": 64,
            "stream": stream,
            "seed": 1,
            "rsalign": body | options,
        },
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rsalign", [AT_THE_END, CARDS], ids=["best_of", "cards"])
@pytest.mark.parametrize(
    ("mood", "said"), [("FAIL AT ONCE", "OSError"), ("NOT A NUMBER", "finite number")]
)
def test_it_is_a_503_in_openais_form(server, mood, said, rsalign, stream):
    status, text, _ = posted(server, mood, rsalign, stream=stream)
    error = json.loads(text)["error"]
    assert (status, error["code"]) == (503, 503)
    assert said in error["message"]
    assert "secret" not in text  # nor what was being judged
    assert server.get("/health")[0] == 200
    assert posted(server, "", rsalign, stream=stream)[0] == 200


def test_a_text_that_is_too_long_for_it_is_the_clients(server):
    status, text, _ = posted(server, "TOO LONG", AT_THE_END, stream=False)
    assert (status, json.loads(text)["error"]["code"]) == (400, 400)
    assert "5000 tokens for the reward model, whose context has 4096" in text
    assert json.loads(server.get("/ready")[1])["ready"]


def test_a_refused_request_is_counted_with_its_reason(server):
    before = server.metric("rsalign:requests_refused_total", reason="invalid")
    assert posted(server, "", {"strategy": "best_of", "n": {}}, stream=False)[0] == 400
    assert posted(server, "", "no_strategy", stream=False)[0] == 400
    assert server.metric("rsalign:requests_refused_total", reason="invalid") == before + 2
    assert server.metric("rsalign:draws_limit") > 0
    assert server.metric("rsalign:draws_open") == 0


def test_a_reward_that_hangs_has_failed(server):
    status, text, _ = posted(server, "HANG", AT_THE_END, stream=False)
    assert (status, json.loads(text)["error"]["code"]) == (503, 503)
    assert "longer than 3.0 seconds" in text


def test_late_in_a_stream_it_is_an_event(server):
    status, text, _ = posted(server, "FAIL LATE", CARDS, stream=True)
    # a slow machine has comments between them
    events = [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
    assert status == 200
    assert json.loads(events[1])["choices"][0]["delta"]["content"]
    assert json.loads(events[-2])["error"]["code"] == 503
    assert events[-1] == "[DONE]"
    # one that hangs fails when comments have kept its client waiting
    status, text, _ = posted(server, "HANG", CARDS, stream=True)
    *comments, failure, end, _ = text.split("\n\n")
    assert status == 200
    assert comments
    assert all(comment.startswith(": cards: no more") for comment in comments)
    assert json.loads(failure.removeprefix("data: "))["error"]["code"] == 503
    assert end == "data: [DONE]"


def test_on_request_the_best_so_far_comes_back(server):
    """What was committed of a stream; the longest draft, unjudged, where nothing was."""
    status, text, _ = posted(server, "FAIL LATE", CARDS, stream=False, on_reward_error="best")
    answer = json.loads(text)
    assert status == 200
    assert answer["rsalign"]["expired"]
    assert answer["rsalign"]["diagnostics"]["reward_failed"]
    assert answer["rsalign"]["kept"] == 8
    assert answer["choices"][0]["finish_reason"] == "length"
    for mood in ("FAIL AT ONCE", "HANG"):
        status, text, _ = posted(server, mood, AT_THE_END, stream=True, on_reward_error="best")
        assert status == 200
        assert '"reward": null' in text
        assert "error" not in text.replace("on_reward_error", "")


def test_other_requests_go_on_meanwhile(server):
    """A hanging reward holds nobody up but those who wait for it."""
    import threading

    stuck = threading.Thread(target=posted, args=(server, "HANG", AT_THE_END), kwargs={"stream": 0})
    stuck.start()
    answers = [posted(server, "", AT_THE_END, stream=False)[0] for _ in range(3)]
    still_stuck = stuck.is_alive()
    stuck.join()
    assert answers == [200] * 3
    assert still_stuck


def test_a_slow_answer_is_kept_alive_by_comments_that_say_why(server):
    status, text, headers = posted(server, "SLOW", AT_THE_END, stream=True)
    comments = [line for line in text.splitlines() if line.startswith(": ")]
    assert status == 200
    assert headers["Content-Type"].startswith("text/event-stream")
    assert ": best_of: no more of the answer is certain yet" in comments
    assert '"streamed": false' in text
