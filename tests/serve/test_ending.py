"""A reward cannot end a server, and cannot keep one that was told to stop."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import QUESTION, Served, rsalign_serve
from stubborn import HANGS, RAISED

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]


@pytest.fixture
def start(tmp_path):
    """Starts servers; what is left of them is stopped in the end."""
    begun = []

    def one(name="log", *flags):
        command = rsalign_serve("--reward", "stubborn:reward", "--reward-timeout", "600", *flags)
        begun.append(Served(tmp_path / name, command))
        return begun[-1]

    yield one
    for served in begun:
        served.stop()


def posted(served, mood, *, stream=False, strategy="best_of"):
    return served.ask(
        "/v1/chat/completions",
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": f"{mood} {QUESTION}"}],
            "max_tokens": 16,
            "stream": stream,
            "seed": 1,
            "rsalign": {"strategy": strategy, "n": 2} if strategy == "best_of" else strategy,
        },
    )


def begin(served, mood):
    """Asks for an answer whose reward never comes, and waits until it is under way."""
    asking = threading.Thread(target=posted, args=(served, mood), daemon=True)
    asking.start()
    while not served.metric("rsalign:requests_open"):
        assert asking.is_alive()


def test_whatever_a_reward_raises_is_a_503_and_the_server_lives(start):
    served = start().wait()
    for place in ("", "THREAD"):
        for mood, failure in RAISED.items():
            for stream in (False, True):
                status, text, _ = posted(served, f"{place} {mood}", stream=stream)
                error = json.loads(text)["error"]
                assert (status, error["code"]) == (503, 503), text
                # a coroutine cannot raise StopIteration: Python makes another of it
                kind = "RuntimeError" if (place, mood) == ("", "STOP") else type(failure).__name__
                assert kind in error["message"]
                assert "secret" not in text
    assert posted(served, "")[0] == 200
    assert served.get("/health")[0] == 200
    # a call that hangs in a thread does not even make the end disorderly
    begin(served, "HANG IN A THREAD")
    assert served.stop() == 0, served.log.read_text()[-5000:]


def test_what_cannot_be_stopped_is_ended_with_the_process(start):
    """An event loop that a reward blocks, and a thread that the interpreter would wait for."""
    blocked, threaded = both = start("blocked"), start("threaded")
    for served in both:
        served.wait()
    asking = threading.Thread(target=posted, args=(blocked, "HANG"), daemon=True)
    asking.start()
    while HANGS not in blocked.log.read_text():
        assert asking.is_alive()
        time.sleep(0.05)
    assert posted(threaded, "LEAVE A THREAD")[0] == 200
    with ThreadPoolExecutor() as pool:  # each has 20 seconds to end
        assert list(pool.map(Served.stop, both)) == [1, 1]
    for served in both:
        assert "Timeout (" in served.log.read_text()  # with the stack of every thread


def test_a_server_that_is_told_to_stop_ends_its_requests_first(start):
    """What can be answered is, what cannot ends with the best so far, and new ones are told."""
    served = start("draining", "--drain-seconds", "6").wait()
    assert json.loads(served.get("/ready")[1]) == {"ready": True, "reason": "", "reward": "works"}
    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(posted, served, "HANG IN A THREAD")
        plain = pool.submit(posted, served, "", strategy={"strategy": "qalign", "steps": 600})
        while served.metric("rsalign:requests_open") < 2:
            assert not hanging.done()
        served.interrupt()
        while served.get("/health")[0] == 200:
            pass
        status, text, headers = posted(served, "late")
        assert (status, json.loads(text)["error"]["code"]) == (503, 503)
        assert "shutting down" in text
        assert int(headers["Retry-After"]) >= 1
        assert json.loads(served.get("/ready")[1])["reason"] == "stopping"
        status, text, _ = plain.result()
        assert status == 200, text
        status, text, _ = hanging.result()
        block = json.loads(text)["rsalign"]
        assert (status, block["expired"], block["reward"]) == (200, True, None)
        assert json.loads(text)["choices"][0]["message"]["content"]
    assert served.stop() == 0, served.log.read_text()[-5000:]
    assert "died" not in served.log.read_text()
