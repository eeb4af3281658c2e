"""The gateway over a toy policy, asked by OpenAI's own client on loopback."""

import asyncio
import contextlib
import json
import threading
import time

import httpx2 as httpx
import openai
import pytest
import uvicorn

from rsalign import Aligner, BestOf, Budget, Plain
from rsalign.core.types import Segment
from rsalign.serve.admission import Admission
from rsalign.serve.gateway.app import Gateway
from rsalign.serve.rules import RequestRules
from rsalign.testing import ToyPolicy, ToyReward

KEY = "secret"
RULES = RequestRules(has_reward=True, budget=Budget(policy_tokens=1000))
EXTRA = {"strategy": "best_of", "n": 4}


class SlowPolicy(ToyPolicy):
    """Waits before each draw, as long as a test says."""

    seconds = 0.0
    num_open = 0
    num_cancelled = 0

    async def extend(self, *arguments, **settings) -> Segment:
        SlowPolicy.num_open += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            SlowPolicy.num_cancelled += 1
            raise
        return await super().extend(*arguments, **settings)


@contextlib.contextmanager
def serving(gateway):
    config = uvicorn.Config(gateway, port=0, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def aligner():
    with Aligner(SlowPolicy(), ToyReward()) as aligner:
        yield aligner


@pytest.fixture(scope="module")
def address(aligner):
    gateway = Gateway(
        aligner=aligner,
        rules=RULES,
        admission=Admission(max_open=8),
        model="toy",
        api_key=KEY,
        keep_alive_seconds=0.05,
    )
    with serving(gateway) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def complete(client, **settings):
    asked = {"model": "toy", "prompt": "1 2", "max_tokens": 6, "seed": 3} | settings
    return client.completions.create(**asked)


def test_an_answer_is_that_of_an_aligner_with_its_seed(client, aligner):
    answer = complete(client, extra_body={"rsalign": EXTRA})
    strategy = BestOf(n=4, inner=Plain(max_tokens=6))
    (expected,) = aligner.generate("1 2", strategy=strategy, seed=3)
    assert answer.choices[0].text == expected.outputs[0].text
    assert answer.rsalign["reward"] == expected.outputs[0].reward
    assert answer.rsalign["reward_calls"] == 4
    assert answer.usage.completion_tokens == expected.alignment.usage.policy_tokens_drawn
    for alias in (
        complete(client, model="toy:best_of", extra_body={"rsalign": {"n": 4}}),
        complete(client, extra_body={"vllm_xargs": {"rsalign": "best_of", "rsalign_n": 4}}),
    ):
        assert alias.choices[0].text == answer.choices[0].text


def test_a_stream_has_the_same_answer_and_block(client):
    whole = complete(client, extra_body={"rsalign": EXTRA})
    options = {"include_usage": True}
    chunks = [*complete(client, stream=True, stream_options=options, extra_body={"rsalign": EXTRA})]
    text = "".join(each.choices[0].text for each in chunks if each.choices)
    assert text == whole.choices[0].text
    assert [each for each in chunks if each.choices][-1].rsalign["reward"] == whole.rsalign[
        "reward"
    ]
    assert chunks[-1].usage == whole.usage


def test_progress_is_told_to_those_who_ask(client):
    chunks = [
        *complete(
            client,
            stream=True,
            stream_options={"include_progress": True},
            extra_body={"rsalign": {"strategy": "qalign", "steps": 20}},
        )
    ]
    steps = [each.rsalign["progress"] for each in chunks if not each.choices]
    assert steps
    assert all(each["step"] <= each["steps"] for each in steps)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "other"}, "this gateway serves 'toy'"),
        ({"n": 2}, "one answer to a request"),
        ({"prompt": {"a": 1}}, "give a text or a list of token ids"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"extra_body": {"rsalign": {"strategy": "best_off"}}}, "best_of"),
        ({"extra_body": {"rsalign": {**EXTRA, "budget.policy_tokens": 9999}}}, "1000"),
        ({"extra_body": {"guided_json": {}}}, "no field 'guided_json'"),
        ({"extra_body": {"stream_options": {"x": 1}}}, "include_usage"),
    ],
)
def test_what_cannot_be_given_is_refused(client, settings, says):
    with pytest.raises(openai.BadRequestError, match=says):
        complete(client, **settings)


def test_a_body_that_is_no_json_an_unknown_path_and_a_wrong_key(address):
    headers = {"Authorization": f"Bearer {KEY}"}
    wrong = httpx.post(f"{address}/v1/completions", content=b"{", headers=headers)
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "Bad Request")
    assert httpx.post(f"{address}/v1/none", headers=headers).status_code == 404
    assert httpx.get(f"{address}/v1/models").status_code == 401
    assert httpx.get(f"{address}/health").status_code == 200


def test_models_are_listed_with_their_aliases(client):
    names = {model.id for model in client.models.list()}
    assert {"toy", "toy:best_of", "toy:qalign"} <= names
    assert "toy:cards" not in names, "it needs a segmenter"


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(SlowPolicy, "seconds", 30.0)
    monkeypatch.setattr(SlowPolicy, "num_open", 0)
    monkeypatch.setattr(SlowPolicy, "num_cancelled", 0)


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"of {SlowPolicy.num_open} draws {SlowPolicy.num_cancelled} were cancelled")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_cancelled_by_its_id(address, slow, stream):
    headers = {"Authorization": f"Bearer {KEY}", "X-Request-Id": "mine"}
    body = {"model": "toy", "prompt": "1", "rsalign": EXTRA, "stream": stream}
    found = []

    def ask():
        found.append(httpx.post(f"{address}/v1/completions", json=body, headers=headers))

    asking = threading.Thread(target=ask)
    asking.start()
    stop = f"{address}/rsalign/cancel/mine"
    wait_for(lambda: SlowPolicy.num_open > 1)  # so that there is something to end
    wait_for(lambda: httpx.post(stop, headers=headers).status_code == 200)
    asking.join()
    if found[0].status_code == 200:  # a stream that had begun
        last = found[0].text.strip().split("\n\n")[-2].removeprefix("data: ")
        error = json.loads(last)["error"]
    else:
        error = found[0].json()["error"]
    assert error["code"] == 409
    assert "mine" in error["message"]
    assert httpx.post(stop, headers=headers).status_code == 404
    wait_for(lambda: SlowPolicy.num_cancelled == SlowPolicy.num_open > 1)


def test_a_client_that_goes_away_ends_its_draws_and_a_silent_stream_is_kept_alive(address, slow):
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "toy", "prompt": "1", "rsalign": EXTRA, "stream": True}
    url = f"{address}/v1/completions"
    with httpx.stream("POST", url, json=body, headers=headers) as response:
        pieces = response.iter_text()  # which closes the stream when it is collected
        assert next(pieces).startswith(": best_of")
    wait_for(lambda: SlowPolicy.num_cancelled == SlowPolicy.num_open > 1)


def test_a_gateway_without_room_says_when_to_ask_again(address, slow, client):
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "toy", "prompt": "1", "rsalign": {**EXTRA, "n": 8}, "stream": True}
    url = f"{address}/v1/completions"
    with httpx.stream("POST", url, json=body, headers=headers) as response:
        pieces = response.iter_text()
        next(pieces)
        with pytest.raises(openai.RateLimitError) as refused:
            complete(client, extra_body={"rsalign": EXTRA})
    assert int(refused.value.response.headers["retry-after"]) >= 1
    wait_for(lambda: SlowPolicy.num_cancelled == SlowPolicy.num_open > 1)
