"""The `openai` package against the server: what it gets is what `Aligner` gives."""

import asyncio

import openai
import pytest
from serving import CARDS, KEY, MESSAGES, QUESTION

from rsalign import Aligner, BestOf, Cards, FixedSize, Plain
from rsalign.core.tasks import concurrently
from rsalign.segments.thresholds import Line

pytestmark = pytest.mark.engine

STRATEGIES = {
    "plain": ({"strategy": "plain"}, Plain()),
    "best_of": ({"strategy": "best_of", "n": 3}, BestOf(n=3)),
    "cards": (CARDS, Cards(segmenter=FixedSize(4), threshold=Line(target=3.0))),
}


def ask(client, rsalign=None, **changes):
    extra = changes.pop("extra_body", {}) | ({} if rsalign is None else {"rsalign": rsalign})
    request = {"model": "tiny", "messages": MESSAGES, "max_tokens": 64, "seed": 5}
    return client.chat.completions.create(**request | changes, extra_body=extra)


def aligned(policy, reward, strategy, **changes):
    from vllm import SamplingParams

    with Aligner(policy, reward, strategy) as aligner:
        params = SamplingParams(**{"max_tokens": 64, "seed": 5} | changes)
        (answer,) = aligner.chat(MESSAGES, params, use_tqdm=False)
    return answer


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_answer_is_that_of_the_aligner(client, policy, reward, name):
    body, strategy = STRATEGIES[name]
    expected = aligned(policy, reward, strategy)
    answer = ask(client, body)
    usage, report = expected.alignment.usage, answer.rsalign
    assert answer.choices[0].message.content == expected.outputs[0].text
    assert answer.choices[0].finish_reason == expected.outputs[0].finish_reason
    assert report["reward"] == pytest.approx(expected.outputs[0].reward, abs=1e-4)
    assert report["drawn"] == usage.policy_tokens_drawn == answer.usage.completion_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + report["drawn"]
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert report["kept"] == usage.policy_tokens_kept
    assert report["reward_calls"] == usage.reward_calls
    assert report["strategy"] == name
    assert (report["forced"] > 0, report["expired"]) == (expected.alignment.forced, False)
    assert report["seed"] == 5
    assert report["seconds"] > 0


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_stream_is_the_same_answer_in_pieces(client, name):
    body, _ = STRATEGIES[name]
    whole = ask(client, body)
    chunks = list(ask(client, body, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    (report,) = [chunk.rsalign for chunk in chunks if hasattr(chunk, "rsalign")]
    for figure in ("reward", "drawn", "kept", "accepted", "rejected", "forced", "reward_calls"):
        assert report[figure] == whole.rsalign[figure]
    assert report["streamed"] == (name != "best_of")
    assert len([piece for piece in pieces if piece]) > 1 or not report["streamed"]


def test_each_accepted_segment_is_a_piece(client):
    """Segments of 4 tokens come in pieces of 4, but for the token that is held back."""
    chunks = list(
        ask(client, CARDS, stream=True, extra_body={"return_token_ids": True}, max_tokens=32)
    )
    sizes = [len(chunk.choices[0].token_ids or ()) for chunk in chunks[1:]]
    assert sizes[0] == 3
    assert set(sizes[1:-1]) == {4}
    assert chunks[-1].rsalign["accepted"] + chunks[-1].rsalign["forced"] == len(sizes)


@pytest.mark.parametrize(
    "words",
    [
        {"rsalign": "best_of"},
        {"rsalign": {"strategy": "best_of", "n": 4}},
        {"extra_body": {"vllm_xargs": {"rsalign": "best_of", "rsalign_n": 4}}},
        {"extra_body": {"vllm_xargs": {"rsalign": "best_of", "rsalign_n": "4"}}},
        {"model": "tiny:best_of"},
        {"model": "tiny:best_of", "rsalign": {"n": 4}},
    ],
    ids=str,
)
def test_ways_to_say_the_same(client, words):
    answer, same = ask(client, {"strategy": "best_of", "n": 4}), ask(client, **words)
    assert same.choices == answer.choices
    assert same.rsalign["drawn"] == answer.rsalign["drawn"]


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_independent_answers_that_share_the_report(client, stream):
    answer = ask(client, "best_of", n=3, stream=stream)
    if stream:
        texts, reports = ["", "", ""], []
        for chunk in answer:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
            reports += [chunk.rsalign] if hasattr(chunk, "rsalign") else []
        (report,) = reports
    else:
        texts, report = [choice.message.content for choice in answer.choices], answer.rsalign
        rewards = [choice["reward"] for choice in report["choices"]]
        assert rewards == sorted(rewards, reverse=True)
        assert answer.usage.completion_tokens == report["drawn"]
    assert all(texts)
    assert len(set(texts)) > 1
    assert report["accepted"] == 3
    assert report["rejected"] == 9
    assert report["drawn"] == sum(choice["drawn"] for choice in report["choices"])


@pytest.mark.parametrize("stream", [False, True])
def test_completions(client, policy, reward, stream):
    from vllm import SamplingParams

    with Aligner(policy, reward, BestOf(n=4)) as aligner:
        expected = aligner.generate(
            [QUESTION, "Tom has 2 pens."], SamplingParams(max_tokens=32, seed=5), use_tqdm=False
        )
    answer = client.completions.create(
        model="tiny:best_of",
        prompt=[QUESTION, "Tom has 2 pens."],
        max_tokens=32,
        seed=5,
        stream=stream,
    )
    texts = ["", ""]
    for chunk in answer if stream else [answer]:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    report = chunk.rsalign
    assert texts == [each.outputs[0].text for each in expected]
    drawn = [each.alignment.usage.policy_tokens_drawn for each in expected]
    assert [choice["drawn"] for choice in report["choices"]] == drawn


def test_what_a_request_sets_is_honoured(client, policy, reward):
    law = {"temperature": 0.7, "top_p": 0.9, "stop": ["Answer"], "max_tokens": 48}
    expected = aligned(policy, reward, BestOf(n=3), **law)
    for stream in (False, True):
        answer = ask(client, {"strategy": "best_of", "n": 3}, stream=stream, **law)
        if stream:
            chunks = list(answer)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            last = chunks[-1].choices[0]
        else:
            (last,) = answer.choices
            text = last.message.content
        assert text == expected.outputs[0].text
        assert "Answer" not in text
        assert (last.finish_reason, last.stop_reason) == ("stop", "Answer")
    assert ask(client, "best_of", max_tokens=5).choices[0].finish_reason == "length"
    assert ask(client, {"strategy": "plain", "max_tokens": 5}).rsalign["kept"] == 5
    kept = [
        client.completions.create(
            model="tiny:plain",
            prompt=QUESTION,
            seed=seed,
            extra_body={"rsalign": {"max_tokens": 18}},
        ).rsalign["kept"]
        for seed in range(4)
    ]
    assert max(kept) == 18  # and not vLLM's own 16


def test_log_probs_are_those_of_the_drawn_tokens(client, policy, reward):
    expected = aligned(policy, reward, BestOf(n=2))
    answer = ask(client, {"strategy": "best_of", "n": 2}, logprobs=True)
    shown = [each.logprob for each in answer.choices[0].logprobs.content]
    assert sum(shown) == pytest.approx(expected.outputs[0].cumulative_logprob, abs=1e-4)
    assert len(shown) == len(expected.outputs[0].token_ids)


def test_without_a_strategy_nothing_differs(client, server):
    """Neither form nor content: not even where the request says so in words."""
    stock, told = ask(client), ask(client, "none")
    assert told.choices == stock.choices
    assert told.usage == stock.usage
    for answer in (stock, told):
        assert not hasattr(answer, "rsalign")
    before = server.metric("rsalign:requests_total")
    ask(client)
    assert server.metric("rsalign:requests_total") == before


def test_models_are_listed_with_aliases(client):
    listed = {card.id: card for card in client.models.list()}
    assert {"tiny", "tiny:plain", "tiny:best_of"} <= set(listed)
    assert "tiny:cards" not in listed  # it has no threshold to start from
    assert listed["tiny:best_of"].root == listed["tiny"].root


def test_asynchronous_clients_are_served_together(server):
    async def main():
        async with openai.AsyncOpenAI(
            base_url=f"{server.address}/v1", api_key=KEY, max_retries=0
        ) as client:

            async def one(i):
                stream = await ask(client, CARDS if i % 2 else "best_of", stream=True, seed=i)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            alone = [await one(i) for i in range(6)]
            return alone, await concurrently(one(i) for i in range(6))

    alone, together = asyncio.run(main())
    assert alone == together
    assert len(set(alone)) > 1


def test_tools_are_vllms(client):
    """The template gets them, and a strategy answers; none has to be called."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    answer = ask(client, "best_of", tools=[tool], tool_choice="none")
    assert answer.choices[0].message.content


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_a_conversation_with_tools_is_that_of_the_aligner(client, policy, reward):
    """Every field that vLLM renders; the reward reads the same messages."""
    from vllm import SamplingParams

    conversation = [
        {"role": "system", "content": [{"type": "text", "text": "Add."}]},
        {"role": "user", "content": QUESTION, "name": "Ann"},
        {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "user", "content": QUESTION},
    ]
    with Aligner(policy, reward, BestOf(n=3)) as aligner:
        params = SamplingParams(max_tokens=24, seed=5)
        (expected,) = aligner.chat(conversation, params, use_tqdm=False)
    answer = ask(client, {"strategy": "best_of", "n": 3}, messages=conversation, max_tokens=24)
    assert answer.choices[0].message.content == expected.outputs[0].text
    assert answer.rsalign["reward"] == pytest.approx(expected.outputs[0].reward, abs=1e-4)
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    for wrong in ({"contnet": "x"}, {"tool_calls": [CALL]}):
        with pytest.raises(openai.BadRequestError, match=next(iter(wrong))):
            ask(client, "best_of", messages=[{"role": "user", "content": "x", **wrong}])


def test_choices_are_ranked_with_their_own_reports(client, policy, reward):
    expected = aligned(policy, reward, BestOf(n=2), n=4, max_tokens=24)
    assert [one.sample for one in expected.outputs] != list(range(4))
    body = {"strategy": "best_of", "n": 2}
    answer = ask(client, body, n=4, max_tokens=24)
    assert [c.message.content for c in answer.choices] == [o.text for o in expected.outputs]
    in_order = sorted(expected.outputs, key=lambda one: one.sample)
    texts = [""] * 4
    for chunk in ask(client, body, n=4, max_tokens=24, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [one.text for one in in_order]  # those of a stream cannot be ranked
    for report, answers in ((answer.rsalign, expected.outputs), (chunk.rsalign, in_order)):
        for choice, one in zip(report["choices"], answers, strict=True):
            assert choice["reward"] == pytest.approx(one.reward, abs=1e-4)
            assert choice["drawn"] == one.alignment.usage.policy_tokens_drawn
            assert choice["diagnostics"].keys() <= one.alignment.diagnostics.keys()


def test_the_seed_that_is_reported_repeats_the_request(client):
    """Also where it was drawn by the server, and for every one of several prompts."""

    def complete(**given):
        return client.completions.create(
            model="tiny:best_of", prompt=[QUESTION, QUESTION, "Tom:"], max_tokens=24, **given
        )

    first = complete()
    again = complete(seed=first.rsalign["seed"])
    assert [c.text for c in again.choices] == [c.text for c in first.choices]
    assert first.choices[0].text != first.choices[1].text  # equal prompts are independent
