"""Token classification in vLLM against transformers, and what the prefix cache saves."""

import asyncio
import hashlib
import json
import shutil

import pytest
import torch
from exact import reward_model, tokenizer

from rsalign import BestOf, ConfigError, Key, Plain, Response, RewardError, Run, Stop
from rsalign.core.protocols import StepReward
from rsalign.core.tasks import concurrently
from rsalign.embedded import REWARD
from rsalign.rewards.process import VllmStepReward
from rsalign.rewards.steps import Steps
from rsalign.testing import check_reward

pytestmark = pytest.mark.engine

BLOCK = 32


@pytest.fixture
def steps(reward, policy):
    """A step reward over the session's engine, with an empty memory of its own."""
    return VllmStepReward(reward.engine, policy.text)


@pytest.fixture
def draw(policy, ask):
    """The policy's own answers."""

    def one(i, *, max_tokens=128):
        drawn = asyncio.run(
            policy.extend(ask(i).tokens, max_new_tokens=max_tokens, key=Key(5, (i,)))
        )
        return ask(i), Response(drawn.tokens, policy.text(drawn.tokens), drawn.stop)

    return one


@torch.inference_mode()
def exact(prompt, response):
    """The raw score at every token of the response, by transformers in float32."""
    opened = tokenizer().apply_chat_template(
        [{"role": m.role, "content": m.content} for m in prompt.messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    before = tokenizer().encode(opened, add_special_tokens=False)
    ids = tokenizer().encode(opened + response.text, add_special_tokens=False)
    hidden = reward_model().model(torch.tensor([ids])).last_hidden_state[0]
    return reward_model().score(hidden)[len(before) :, 0].tolist()


def line_ends(response):
    newline = tokenizer().encode("\n", add_special_tokens=False)[0]
    inner = [i + 1 for i, token in enumerate(response.tokens) if token == newline]
    return (*inner, len(response.tokens))


def test_it_agrees_with_transformers(steps, draw):
    """The embedded reward model has the policy's tokenizer: token i of one is token i of both."""
    for i in range(8):
        prompt, response = draw(i)
        right = exact(prompt, response)
        ends = tuple(range(1, len(right) + 1))
        ours = asyncio.run(steps.score_steps(prompt, response, ends))
        assert ours == pytest.approx(right, abs=1e-4)
        lines = line_ends(response)
        by_line = asyncio.run(steps.score_steps(prompt, response, lines))
        # the last line ends with the text; EOS has no text
        assert by_line == pytest.approx([right[min(e, len(right)) - 1] for e in lines], abs=1e-4)


def test_it_is_a_step_reward(steps, draw):
    assert isinstance(steps, StepReward)
    assert asyncio.run(steps.score_steps(*draw(0), ())) == ()


def test_a_step_does_not_depend_on_what_follows(reward, policy, steps, draw):
    prompt, response = draw(1)
    end = line_ends(response)[1]
    tokens = response.tokens[:end]
    cut = Response(tokens, policy.text(tokens), Stop.BOUNDARY)
    fresh = VllmStepReward(reward.engine, policy.text)
    (alone,) = asyncio.run(fresh.score_steps(prompt, cut, (end,)))
    within, _ = asyncio.run(steps.score_steps(prompt, response, (end, len(response.tokens))))
    assert alone == pytest.approx(within, abs=1e-4)


@pytest.fixture(scope="module")
def cold(policy):
    """An engine of its own, whose cache only these tests fill."""
    reward = VllmStepReward.start(
        REWARD, decode=policy.text, backend="in_process", kv_cache_memory_bytes=64 << 20
    )
    yield reward
    reward.close()


def test_a_longer_response_costs_its_tail(cold, draw, policy):
    prompt, response = draw(2)
    ends, seen, total = line_ends(response), 0, 0
    for i, end in enumerate(ends, start=1):
        text = policy.text(response.tokens[:end])
        grown = Response(response.tokens[:end], text, Stop.BOUNDARY)
        values = asyncio.run(cold.score_steps(prompt, grown, ends[:i]))
        assert values == pytest.approx(
            [exact(prompt, grown)[min(e, len(exact(prompt, grown))) - 1] for e in ends[:i]],
            abs=1e-4,
        )
        cost = values[-1]
        # what was computed before, in whole blocks; the last block is always computed
        cached = min(seen, cost.tokens - 1) // BLOCK * BLOCK
        assert cost.cached_tokens == cached
        assert i == 1 or cached > 0
        seen, total = cost.tokens, total + cost.tokens - cost.cached_tokens
    assert total < seen + BLOCK * len(ends)
    again = asyncio.run(cold.score_steps(prompt, grown, ends))
    assert again == values
    assert again[-1].tokens == 0, "what is remembered was asked again"


def test_what_was_forgotten_is_computed_again(reward, policy, steps, draw):
    """The engine has the prefix in its cache and returns no rows of it; ours is empty."""
    prompt, response = draw(3)
    ends = line_ends(response)
    first = asyncio.run(steps.score_steps(prompt, response, ends))
    forgetful = VllmStepReward(reward.engine, policy.text, num_remembered=1)
    for _ in range(2):
        again = asyncio.run(forgetful.score_steps(prompt, response, ends))
        assert again == pytest.approx(first, abs=1e-4)
        size = len(exact(prompt, response)) + len(ask_tokens(prompt))
        assert again[-1].tokens == 2 * size
        assert 0 < again[-1].cached_tokens < size


def ask_tokens(prompt):
    opened = tokenizer().apply_chat_template(
        [{"role": "user", "content": prompt.text}], tokenize=False, add_generation_prompt=True
    )
    return tokenizer().encode(opened, add_special_tokens=False)


def test_the_memory_is_bounded(reward, policy, draw):
    small = VllmStepReward(reward.engine, policy.text, num_remembered=50)
    for i in range(4):
        prompt, response = draw(i)
        asyncio.run(small.score_steps(prompt, response, (len(response.tokens),)))
        assert len(small._known._values) <= 50


def test_alone_and_among_others(reward, policy, draw):
    """Siblings share prefixes that are computed in the same engine step."""
    asked = [draw(i, max_tokens=20 + 10 * i) for i in range(6)]
    siblings = [
        (prompt, Response(response.tokens[:k], policy.text(response.tokens[:k]), Stop.BOUNDARY))
        for prompt, response in asked
        for k in (12, 16, 20)
    ]

    def ends(response):
        return tuple(range(1, len(response.tokens) + 1))

    async def main():
        one = VllmStepReward(reward.engine, policy.text)
        together = await concurrently(
            one.score_steps(prompt, response, ends(response)) for prompt, response in siblings
        )
        for (prompt, response), values in zip(siblings, together, strict=True):
            right = exact(prompt, response)
            assert values == pytest.approx(right[: len(values)], abs=1e-4)

    asyncio.run(main())


@pytest.mark.parametrize("aggregate", ["last", "min", "mean", "sum", "product"])
def test_steps_are_a_reward(steps, draw, policy, aggregate):
    examples = [draw(i, max_tokens=6 + 12 * i) for i in range(5)]
    examples.append((examples[0][0], Response((), "", None)))
    examples.append((examples[0][0], Response((2,), "", Stop.EOS)))
    asyncio.run(check_reward(Steps(steps, policy.text, aggregate), examples))


def test_steps_choose_among_answers(steps, policy, ask):
    """The least of the steps' values as a reward, through a strategy."""
    worst_step = Steps(steps, policy.text, "min")

    async def main():
        best = await BestOf(n=4, inner=Plain(max_tokens=96)).sample(
            ask(4), Run(policy, worst_step, Key(3))
        )
        right = exact(ask(4), best.response)
        lines = line_ends(best.response)
        assert best.reward == pytest.approx(
            min(right[min(e, len(right)) - 1] for e in lines), abs=1e-4
        )

    asyncio.run(main())


def test_another_tokenizer(reward, ask):
    """Ends count the policy's tokens: here bytes, of which one character may have several."""
    text = "First 12 + 7 = 19\nSo é 3"
    data = tuple(text.encode())

    def decode(tokens):
        return bytes(tokens).decode(errors="replace")

    response = Response(data, text, Stop.BOUNDARY)
    offsets = tokenizer()(text, return_offsets_mapping=True, add_special_tokens=False)
    begins = [begin for begin, _ in offsets["offset_mapping"]]
    right = exact(ask(0), response)

    def value(num_chars):
        """At the last token that begins before so many characters have passed."""
        return right[max(i for i, begin in enumerate(begins) if begin < num_chars)]

    first, accent = len("First"), len(text[: text.index("é")].encode())
    ends = (first, first + 2, accent + 1, accent + 2, len(data))
    steps = VllmStepReward(reward.engine, decode)
    values = asyncio.run(steps.score_steps(ask(0), response, ends))
    mark = text.index("é")
    # half of the accented letter is none of it
    chars = (first, first + 2, mark, mark + 1, len(text))
    assert values == pytest.approx([value(c) for c in chars], abs=1e-4)


def test_an_answer_without_text(steps, ask):
    """EOS alone: the value is that of the prompt's last token."""
    (value,) = asyncio.run(steps.score_steps(ask(0), Response((2,), "", Stop.EOS), (1,)))
    hidden = reward_model().model(torch.tensor([ask_tokens(ask(0))])).last_hidden_state[0, -1]
    assert value == pytest.approx(reward_model().score(hidden).item(), abs=1e-4)


def test_refusals(steps, reward, policy, draw, tmp_path):
    prompt, response = draw(0)
    with pytest.raises(ConfigError, match="increase within"):
        asyncio.run(steps.score_steps(prompt, response, (0,)))
    long = Response((1,) * 9, "First " * 600, Stop.BOUNDARY)
    with pytest.raises(RewardError, match="context has 512") as failed:
        asyncio.run(steps.score_steps(prompt, long, (9,)))
    assert failed.value.response is long
    with pytest.raises(ConfigError, match="num_remembered=0"):
        VllmStepReward(reward.engine, policy.text, num_remembered=0)
    shutil.copytree(REWARD, tmp_path / "two")
    config = json.loads((tmp_path / "two/config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    (tmp_path / "two/config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"num_labels=2 \(0: 'a', 1: 'b'\)"):
        VllmStepReward.start(str(tmp_path / "two"), decode=policy.text)


def test_a_closed_engine_is_a_failed_reward(policy, draw):
    closed = VllmStepReward.start(
        REWARD, decode=policy.text, backend="in_process", kv_cache_memory_bytes=64 << 20
    )
    closed.close()
    prompt, response = draw(0)
    with pytest.raises(RewardError, match="closed"):
        asyncio.run(closed.score_steps(prompt, response, (1,)))


def test_addresses_tell_prefixes_apart():
    from rsalign.rewards.process import _addresses

    one, other = _addresses((5, 6, 7, 8), 2), _addresses((5, 6, 7, 9), 2)
    assert one[0] == other[0]
    assert len({*one, *other, *_addresses((5, 7, 8), 1)}) == 5
    assert len(one[0]) == hashlib.blake2b(digest_size=16).digest_size
