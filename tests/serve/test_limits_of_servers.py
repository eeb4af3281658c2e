"""Budgets of requests and of the server."""

import asyncio
import json

import openai
import pytest
from serving import KEY, MESSAGES, QUESTION

from rsalign.core.tasks import concurrently


@pytest.mark.engine
def test_a_request_cannot_draw_more_than_its_budget(client):
    answer = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=64,
        extra_body={"rsalign": {"strategy": "best_of", "n": 64, "budget": {"policy_tokens": 300}}},
    )
    assert answer.rsalign["expired"]
    assert answer.usage.completion_tokens <= 300
    assert answer.choices[0].message.content
    several = client.completions.create(
        model="tiny:best_of",
        prompt=[QUESTION, QUESTION],
        n=2,
        max_tokens=64,
        extra_body={"rsalign": {"budget": {"policy_tokens": 200, "reward_calls": 8}}},
    )
    assert several.usage.completion_tokens <= 200
    assert several.rsalign["reward_calls"] <= 8
    assert len(several.choices) == 4


@pytest.mark.engine
def test_time_ends_a_request(client):
    answer = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=64,
        extra_body={"rsalign": {"strategy": "qalign", "steps": 4000, "budget": {"seconds": 0.7}}},
    )
    assert answer.rsalign["expired"]
    assert answer.choices[0].message.content


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_for_not_even_a_token_is_refused(server, stream):
    body = {"model": "tiny", "messages": MESSAGES, "stream": stream}
    rsalign = {"strategy": "best_of", "budget": {"seconds": 1e-7}}
    status, text, _ = server.ask("/v1/chat/completions", body | {"rsalign": rsalign})
    assert (status, json.loads(text)["error"]["code"]) == (400, 400)
    assert "before the first token" in text


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_a_full_server_says_when_to_ask_again(server, stream):
    """What it takes on is answered; the rest gets 429 at once, and nothing is left behind."""

    async def main():
        async with openai.AsyncOpenAI(
            base_url=f"{server.address}/v1", api_key=KEY, max_retries=0
        ) as client:

            async def one(seed):
                try:
                    answer = await client.chat.completions.create(
                        model="tiny:best_of",
                        messages=MESSAGES,
                        n=8,
                        seed=seed,
                        max_tokens=48,
                        stream=stream,
                    )
                    if stream:
                        return [chunk async for chunk in answer]
                except openai.RateLimitError as refused:
                    return refused
                return answer

            return await concurrently(one(seed) for seed in range(16))

    answers = asyncio.run(main())
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert 0 < len(refused) <= 13  # one is answered at a time, and two wait
    for each in refused:
        assert int(each.response.headers["Retry-After"]) >= 1
        assert each.body["code"] == 429
        assert "ask again later" in each.body["message"]
    assert not any(server.settled().values())
    status, _, _ = server.ask(
        "/v1/chat/completions", {"model": "tiny:best_of", "messages": MESSAGES, "n": 8}
    )
    assert status == 200


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_more_choices_than_there_can_ever_be(server, stream):
    """To ask again later would be of no use."""
    body = {"model": "tiny:plain", "messages": MESSAGES, "n": 49, "max_tokens": 1, "stream": stream}
    status, text, _ = server.ask("/v1/chat/completions", body)
    assert (status, json.loads(text)["error"]["code"]) == (400, 400)
    assert "never takes on more than 48" in text
