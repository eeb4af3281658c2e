"""Policy and reward behind vLLM's own server equal those on an engine of this process.

And what can go wrong on the way: dead, dying, silent, overloaded and refusing servers.
"""

import asyncio
import gc
import re
import socket
import urllib.request
from collections import Counter
from dataclasses import replace
from types import MappingProxyType

import pytest
from server import front

from rsalign import (
    Aligner,
    BestOf,
    ConfigError,
    Key,
    Message,
    Plain,
    PolicyError,
    Prompt,
    Response,
    RewardError,
    Sampling,
    Stop,
)
from rsalign.core.cancelled_draws import receive_cancelled_draws
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY
from rsalign.engines import remote
from rsalign.engines.remote import Replicas
from rsalign.policies.vllm_server import VllmServerPolicy
from rsalign.rewards.remote import RemoteReward
from rsalign.segments.segmenters import FixedSize
from rsalign.testing import check_policy, check_reward, check_strategy

# what the proxies of these tests leave open when a loop ends is closed by the garbage collector
pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

EOS = 2
LAWS = {
    "raw": Sampling(),
    "greedy": Sampling(temperature=0),
    "truncated": Sampling(temperature=0.6, top_p=0.9, min_p=0.01),
    "penalized": Sampling(
        temperature=2, top_k=5, repetition_penalty=1.1, logit_bias=((EOS, -3.0),)
    ),
    "allowed": Sampling(allowed_token_ids=tuple(range(300))),
    "stop": Sampling(stop=("Answer", "+ 1")),
    "stop_token": Sampling(stop_token_ids=(212,)),
}


@pytest.fixture(autouse=True)
def _collected():
    """Within the test that left them, where the warning is expected."""
    yield
    gc.collect()


def at(part, *addresses, **how):
    """The same policy or reward at other addresses."""
    return replace(part, replicas=Replicas(addresses, **how))


def dead():
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_policy(served, ask):
    prefixes = [ask(i).tokens for i in range(6)]
    asyncio.run(check_policy(served, prefixes, eos=EOS, max_new_tokens=48))


def test_strategy(served, judge, ask):
    """No task is left over by a request."""
    strategy = BestOf(n=3, inner=Plain(max_tokens=48))
    asyncio.run(check_strategy(strategy, ask(3), served, judge, eos=EOS))


@pytest.mark.parametrize("law", LAWS)
def test_segments_are_those_of_an_own_engine(served, policy, ask, law):
    async def draw(of):
        tuned = of.with_sampling(LAWS[law])
        return await concurrently(
            tuned.extend(
                ask(i).tokens,
                max_new_tokens=(96, 1 << 30, 7)[i % 3],
                key=Key(3, (i,)),
                boundary=FixedSize(20) if i > 8 else None,
            )
            for i in range(12)
        )

    ours = asyncio.run(draw(served))
    assert ours == asyncio.run(draw(policy))
    assert all(segment.log_probs is not None for segment in ours)
    stops = {segment.stop for segment in ours}
    assert stops >= {Stop.STOP} if "stop" in law else {Stop.LENGTH, Stop.BOUNDARY}


def test_encoder(served, policy):
    messages = (Message("system", "Count."), Message("user", "1 + 1"))
    assert served.encode_chat(messages) == policy.encode_chat(messages)
    assert served.encode("First 1") == policy.encode("First 1")
    assert served.text((323, 471, EOS)) == policy.text((323, 471, EOS))


def test_log_probs(served, policy, ask):
    async def main():
        drawn = await served.extend(ask(1).tokens, max_new_tokens=40, key=Key(2))
        ours = await served.log_probs(ask(1).tokens, drawn.tokens)
        theirs = await policy.log_probs(ask(1).tokens, drawn.tokens)
        assert ours == theirs
        assert [one.rank for one in ours] == [one.rank for one in theirs]
        assert await served.log_probs(ask(1).tokens, ()) == ()
        with pytest.raises(ConfigError, match="only temperature 1"):
            await served.with_sampling(Sampling(top_k=3)).log_probs(ask(1).tokens, drawn.tokens)

    asyncio.run(main())


def test_log_probs_are_trusted_only_where_they_are_right(served, ask):
    async def main():
        unknown = replace(served, processed_log_probs=False)
        for law, known in (
            (Sampling(), True),
            (Sampling(temperature=0.5), False),
            (Sampling(temperature=0), True),
        ):
            tuned = unknown.with_sampling(law)
            drawn = await tuned.extend(ask(0).tokens, max_new_tokens=4, key=Key(0))
            assert (drawn.log_probs is not None) == known

    asyncio.run(main())


def test_the_prefix_is_cached(served, ask):
    async def main():
        prefix = (ask(4).tokens * 3)[:128]
        await served.extend(prefix, max_new_tokens=1, key=Key(0, ("first",)))
        again = await served.extend(prefix + (5,), max_new_tokens=1, key=Key(0, ("second",)))
        assert again.cached_tokens == 128

    asyncio.run(main())


def test_reward(judge, reward, policy, ask):
    async def main():
        drawn = await concurrently(
            policy.extend(ask(i).tokens, max_new_tokens=4 + 6 * i, key=Key(5, (i,)))
            for i in range(12)
        )
        examples = [
            (ask(i), Response(s.tokens, policy.text(s.tokens), s.stop)) for i, s in enumerate(drawn)
        ] + [(ask(0), Response((), "", None))]
        await check_reward(judge, examples)
        for prompt, response in examples:
            ours = await judge.score(prompt, response)
            own = await reward.score(prompt, response)
            assert ours == pytest.approx(own, abs=1e-4)
            assert ours.tokens == own.tokens

    asyncio.run(main())


def test_aligner(servers, policy, reward, ask):
    """Addresses are all it takes; a list of them too, and from a loop of the caller's."""
    strategy = BestOf(n=4, inner=Plain(max_tokens=64))
    conversations = [[{"role": "user", "content": ask(i).messages[0].content}] for i in range(4)]
    with Aligner(policy, reward, strategy) as aligner:
        own = aligner.chat(conversations)
    at, judged_at = servers
    with Aligner(at, judged_at, strategy, engine_args={"processed_log_probs": True}) as aligner:
        ours = aligner.chat(conversations)
        asyncio.run(aligner.achat(conversations[:1]))
        again = aligner.chat(conversations)
    for a, b, c in zip(own, ours, again, strict=True):
        assert a.outputs[0].token_ids == b.outputs[0].token_ids == c.outputs[0].token_ids
        assert a.outputs[0].reward == pytest.approx(b.outputs[0].reward, abs=1e-4)

    async def main():
        async with Aligner([at, dead()], [judged_at], strategy) as aligner:
            return await aligner.achat(conversations)

    assert [each.outputs[0].token_ids for each in asyncio.run(main())] == [
        each.outputs[0].token_ids for each in own
    ]


def test_a_prompt_stays_on_one_replica(served, servers):
    """Short prompts whose responses grow, and long ones that begin alike."""
    prompts = [prefix + (20 + i,) for prefix in ((1,), tuple(range(10, 110))) for i in range(3)]

    async def main():
        async with front(servers[0]) as (one, at_one), front(servers[0]) as (two, at_two):
            policy = at(served, one, two)
            for i, prompt in enumerate(prompts):
                before = len(at_one), len(at_two)
                kept = ()
                for step in range(3):
                    drawn = await policy.extend(
                        prompt + kept, max_new_tokens=3, key=Key(0, (i, step))
                    )
                    kept += drawn.tokens
                await policy.log_probs(prompt, kept)
                assert sorted((len(at_one) - before[0], len(at_two) - before[1])) == [0, 4]
            policy.close()

    asyncio.run(main())


def test_prompts_are_spread(served):
    """Those that begin alike too; and a replica that is added takes no more than its share."""
    two, three = (
        at(served, *(f"http://{name}" for name in names), "http://c") for names in ("a", "ab")
    )

    def home(policy, prompt):
        return policy.replicas.rank(policy.find_affinity(prompt))[0].address

    system = tuple(range(300))
    prompts = [(*system, i) for i in range(100)] + [(1, i) for i in range(100)]
    shares = Counter(home(two, prompt) for prompt in prompts)
    assert min(shares.values()) > 70
    moved = Counter(home(three, p) for p in prompts if home(three, p) != home(two, p))
    assert set(moved) == {"http://b"}
    assert 40 < moved["http://b"] < 95
    assert all(home(three, p) == home(three, (*p, 7, 8, 9)) for p in prompts)


def test_rewards_of_a_prompt_stay_on_one_replica(judge, servers):
    async def main():
        async with front(servers[1]) as (one, at_one), front(servers[1]) as (two, _):
            reward = at(judge, one, two)
            seen = set()
            for i in range(6):
                prompt = Prompt((Message("user", f"1 + {i}"),), (1,))
                before = len(at_one)
                for text in ("", "First", "First 1 + 1"):
                    await reward.score(prompt, Response((1,), text, Stop.BOUNDARY))
                seen.add(len(at_one) - before)
            reward.close()
            assert seen <= {0, 3}

    asyncio.run(main())


def test_a_dead_replica_is_left_and_found_again(served, servers, ask, monkeypatch):
    monkeypatch.setattr(remote, "_COOL_DOWN_SECONDS", 0.3)

    async def main():
        async with front(servers[0]) as (one, at_one):
            gone = dead()
            policy = at(served, gone, one)

            async def draw():
                return await concurrently(
                    policy.extend(ask(i).tokens, max_new_tokens=2, key=Key(0, (i,)))
                    for i in range(16)
                )

            first = await draw()
            assert len(at_one) == 16
            port = int(gone.rsplit(":", 1)[1])
            back = []

            async def answered(reader, writer):
                back.append(await reader.read(1 << 16))
                writer.close()

            async with await asyncio.start_server(answered, "127.0.0.1", port):
                await draw()
                assert not back  # it is not asked while it cools down
                await asyncio.sleep(0.4)
                assert await draw() == first  # it hangs up, and the other one takes over
                assert back
            policy.close()

    asyncio.run(main())


def test_an_answer_that_breaks_off_is_asked_for_elsewhere(served, servers, ask):
    async def main():
        async def hang_up(number, writer):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            writer.write(b'data: {"choices": [{"text": "", "token_ids": [5]}]}\n\n')
            await writer.drain()
            writer.close()
            return True

        async with front(servers[0], hang_up) as (one, at_one), front(servers[0]) as (two, at_two):
            policy = at(served, one, two)

            async def draw(of):
                return await concurrently(
                    of.extend(ask(i).tokens, max_new_tokens=8, key=Key(0, (i,))) for i in range(16)
                )

            assert await draw(policy) == await draw(served)
            assert at_one
            assert len(at_two) == 16
            policy.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("event", "error", "says"),
    [
        ('{"error": {"message": "the core died", "code": 500}}', PolicyError, "the core died"),
        ('{"choices": [{"text": "x", "finish_reason": "stop"}]}', ConfigError, "no token ids"),
        (
            '{"choices": [{"text": "x", "token_ids": [5], "finish_reason": "length"}]}',
            ConfigError,
            "1 of 8 tokens",
        ),
        (
            '{"choices": [{"text": "x", "token_ids": [5], "finish_reason": "filter"}]}',
            PolicyError,
            "'filter'",
        ),
    ],
)
def test_an_answer_that_cannot_be_used(served, servers, ask, event, error, says):
    async def main():
        async def answer(number, writer):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            writer.write(f"data: {event}\n\ndata: [DONE]\n\n".encode())
            writer.write_eof()
            return True

        async with front(servers[0], answer) as (one, seen):
            policy = at(served, one)
            with pytest.raises(error, match=says):
                await policy.extend(ask(0).tokens, max_new_tokens=8, key=Key(0))
            assert len(seen) == 1
            policy.close()

    asyncio.run(main())


def test_all_are_dead(served, judge, ask, monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.01)
    one, two = dead(), dead()

    async def main():
        policy, reward = at(served, one, two), at(judge, one, two)
        with pytest.raises(PolicyError, match="no server answered") as refused:
            await policy.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
        assert one in str(refused.value)
        assert two in str(refused.value)
        with pytest.raises(RewardError, match="no server answered") as unscored:
            await reward.score(ask(0), Response((1,), "First", Stop.BOUNDARY))
        assert unscored.value.prompt == ask(0)

    asyncio.run(main())
    with pytest.raises(PolicyError, match="no server answered"):
        Aligner(one)


def test_overload_is_waited_out(served, servers, ask, monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.01)

    async def main():
        async def overloaded(number, writer):
            if number < 3:
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                writer.write_eof()
            return number < 3

        async with front(servers[0], overloaded) as (one, seen):
            policy = at(served, one)
            drawn = await policy.extend(ask(0).tokens, max_new_tokens=4, key=Key(0))
            assert drawn == await served.extend(ask(0).tokens, max_new_tokens=4, key=Key(0))
            assert len(seen) == 3
            policy.close()

    asyncio.run(main())


def test_a_refusal_is_final(served, servers, ask):
    async def main():
        async with front(servers[0]) as (one, seen), front(servers[0]) as (two, seen_two):
            wrong = at(served, one, two).with_sampling(Sampling(stop_token_ids=(1 << 40,)))
            with pytest.raises(ConfigError, match=r"refuses this request.*status 400"):
                await wrong.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
            assert len(seen) + len(seen_two) == 1
            wrong.close()

    asyncio.run(main())


def test_silence_times_out(served, servers, ask):
    async def main():
        async def say_nothing(number, writer):
            await asyncio.sleep(3)
            return True

        async with front(servers[0], say_nothing) as (one, seen):
            policy = at(served, one, timeout_seconds=0.3)
            with pytest.raises(PolicyError, match="fell silent"):
                await policy.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
            assert len(seen) == 1
            policy.close()

    asyncio.run(main())


def test_cancelling_aborts_in_the_server(served, servers, ask):
    def metric(name):
        page = urllib.request.urlopen(f"{servers[0]}/metrics", timeout=5).read().decode()
        return float(re.search(rf"^vllm:{name}{{.*}} (\S+)$", page, re.MULTILINE)[1])

    async def main():
        endless = served.with_sampling(Sampling(logit_bias=((EOS, -100.0),)))
        before = metric("generation_tokens_total")
        reports = []
        with receive_cancelled_draws(lambda *report: reports.append(report)):
            open_call = asyncio.ensure_future(
                endless.extend(ask(0).tokens, max_new_tokens=400, key=Key(7))
            )
        while await asyncio.to_thread(metric, "num_requests_running") == 0:
            assert not open_call.done()
        open_call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await open_call
        async with asyncio.timeout(20):
            while await asyncio.to_thread(metric, "num_requests_running"):
                await asyncio.sleep(0.05)
        drawn = await asyncio.to_thread(metric, "generation_tokens_total") - before
        ((prefix, tokens),) = reports
        assert prefix == ask(0).tokens
        assert len(tokens) <= drawn < 400

    asyncio.run(main())


def test_the_key_is_sent_and_never_shown(served, servers, ask, monkeypatch):
    async def main():
        async def refuse(number, writer):
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
            writer.write_eof()
            return True

        async with front(servers[0], refuse) as (one, seen):
            policy = at(served, one, api_key="a-secret")
            with pytest.raises(ConfigError, match="does not accept the API key") as refused:
                await policy.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
            assert b"authorization: bearer a-secret" in seen[0].lower()
            assert "a-secret" not in f"{refused.value} {policy!r} {policy.replicas!r}"
            monkeypatch.setenv("OPENAI_API_KEY", "another")
            with pytest.raises(ConfigError, match="does not accept the API key"):
                await at(served, one).extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
            assert b"authorization: bearer another" in seen[1].lower()
            policy.close()

    asyncio.run(main())


def test_what_cannot_work_is_refused_at_once(servers):
    at, judged_at = servers
    for connect, says in (
        (lambda: VllmServerPolicy.connect(at, model="another"), "choose one of these"),
        (lambda: VllmServerPolicy.connect(at, tokenizer="/no/such/model"), "give tokenizer="),
        (lambda: VllmServerPolicy.connect([]), "give http://host:port"),
        (lambda: VllmServerPolicy.connect([at, judged_at]), "serve different models"),
        (lambda: VllmServerPolicy.connect(at, timeout_seconds=0), "timeout_seconds=0"),
        (lambda: VllmServerPolicy.connect(f"{at}/no/such"), "refuses this request"),
        (lambda: RemoteReward.connect(at), "/classify refuses"),
        (lambda: Aligner([at, POLICY]), "give http://host:port"),
        (lambda: Aligner(at, engine_args={"dtype": "float32"}), "timeout_seconds"),
        (lambda: Aligner(at, judged_at, reward_args={"sampling": 1}), "for a server there are"),
    ):
        with pytest.raises(ConfigError, match=says):
            connect()


def test_what_a_server_cannot_do_is_refused(served, ask):
    async def main():
        with pytest.raises(ConfigError, match="would clip it"):
            served.with_sampling(Sampling(logit_bias=((5, 200.0),)))

        class Rule:
            max_tokens = 5
            engine_arguments = MappingProxyType({"rsalign_rule": 1})

        with pytest.raises(ConfigError, match="known in the engine only"):
            await served.extend(ask(0).tokens, max_new_tokens=9, key=Key(0), boundary=Rule())

    asyncio.run(main())


def test_a_closed_one_says_so(served, ask):
    async def main():
        policy = at(served, *served.replicas.addresses)
        endless = policy.with_sampling(Sampling(logit_bias=((EOS, -100.0),)))
        open_call = asyncio.ensure_future(
            endless.extend(ask(0).tokens, max_new_tokens=400, key=Key(0))
        )
        await policy.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))
        policy.close()
        policy.close()
        for call in (open_call, policy.extend(ask(0).tokens, max_new_tokens=1, key=Key(0))):
            with pytest.raises(PolicyError, match="was closed"):
                await call

    asyncio.run(main())
