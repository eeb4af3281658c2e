"""Whatever goes wrong with a real engine is an error of ours that says what to do."""

import asyncio
import json
import re
import shutil

import psutil
import pytest

from rsalign import Aligner, BestOf, ConfigError, Key, Plain, PolicyError, RewardError, Sampling
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY, REWARD
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.watchdog import child_pids
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward

pytestmark = pytest.mark.engine

SMALL = {"kv_cache_memory_bytes": 64 << 20}
ASKED = [{"messages": [{"role": "user", "content": p.question}]} for p in problems("heldout", 3)]


@pytest.fixture
def altered(tmp_path):
    """A copy of an embedded model with other settings."""

    def copy(model, *, without=(), **settings):
        folder = tmp_path / "model"
        shutil.copytree(model, folder)
        for name in without:
            (folder / name).unlink()
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        return str(folder)

    return copy


@pytest.mark.parametrize("start", [VllmPolicy.start, VllmReward.start])
def test_a_missing_model(start, tmp_path):
    with pytest.raises(ConfigError, match="there is no model at /no/such/model"):
        start("/no/such/model")
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        start(str(tmp_path))


def test_wrong_engine_arguments():
    with pytest.raises(ConfigError, match="Check the model's name and engine_args"):
        VllmPolicy.start(POLICY, max_modle_len=5)
    with pytest.raises(ConfigError, match="vLLM cannot start"):
        VllmPolicy.start(POLICY, max_model_len=10**9)
    with pytest.raises(ConfigError, match="choose 'auto'"):
        VllmPolicy.start(POLICY, backend="gpu")


def test_a_reward_model_with_two_labels(altered):
    labels = {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    with pytest.raises(ConfigError, match=r"num_labels=2 \(0: .bad., 1: .good.\), but a reward"):
        VllmReward.start(altered(REWARD, **labels))


def test_a_reward_model_without_a_chat_template(altered):
    with pytest.raises(ConfigError, match="has no chat template"):
        VllmReward.start(altered(REWARD, without=["chat_template.jinja"]))


def test_a_policy_without_a_chat_template(altered):
    policy = VllmPolicy.start(altered(POLICY, without=["chat_template.jinja"]), **SMALL)
    with Aligner(policy, strategy=Plain(max_tokens=4)) as aligner:
        assert aligner.generate("First 1 + 1")[0].finished
        with pytest.raises(ConfigError, match=r"has no chat template: give chat_template"):
            aligner.chat([{"role": "user", "content": "hello"}])
        (answer,) = aligner.chat(
            [{"role": "user", "content": "hello"}], chat_template="{{ messages[0].content }}"
        )
        assert answer.finished
    policy.close()


def test_a_prompt_that_does_not_fit(aligner):
    long = "First 1 + 1 = 2\n" * 200
    with pytest.raises(ConfigError, match="but the context has 512"):
        aligner.generate(long, strategy=Plain(max_tokens=4))
    results = aligner.generate([long, "First"], strategy=Plain(max_tokens=4), on_error="return")
    assert isinstance(results[0].error, ConfigError)
    assert results[1].error is None


def test_an_answer_that_fills_the_context_is_a_long_one(aligner):
    """The limit of the whole response is the context where max_tokens is more."""
    prompt = "First 1 + 1 = 2\n" * 50
    (answer,) = aligner.generate(prompt, strategy=Plain(max_tokens=10_000))
    total = len(answer.prompt_token_ids) + len(answer.outputs[0].token_ids)
    assert total <= 512
    assert answer.outputs[0].finish_reason in ("stop", "length")


def test_an_engine_that_dies_in_this_process(monkeypatch):
    """Its waiters are told; another engine of the process works on."""
    doomed = VllmPolicy.start(POLICY, **SMALL)
    other = VllmPolicy.start(POLICY, **SMALL)

    def fails():
        raise RuntimeError("planned fault of the device")

    monkeypatch.setattr(doomed.engine.vllm_engine, "step", fails)
    with Aligner(doomed, None, Plain(max_tokens=8)) as aligner:
        with pytest.raises(PolicyError, match="planned fault of the device"):
            aligner.generate(ASKED)
        with pytest.raises(PolicyError, match="will not recover"):
            aligner.generate(ASKED)
    with Aligner(other, None, Plain(max_tokens=8)) as aligner:
        assert all(answer.finished for answer in aligner.generate(ASKED))
    doomed.close()
    other.close()


def test_an_engine_whose_process_is_killed():
    before = child_pids()
    policy = VllmPolicy.start(POLICY, backend="async", **SMALL)
    prompt = policy.encode("First 1 + 1")
    cores = [
        process
        for process in map(psutil.Process, child_pids() - before)
        if "EngineCore" in " ".join(process.cmdline())
        or "spawn_main" in " ".join(process.cmdline())
    ]

    async def main():
        return await concurrently(
            policy.extend(prompt, max_new_tokens=400, key=Key(i)) for i in range(64)
        )

    assert len(asyncio.run(main())) == 64
    for core in cores:
        core.kill()
    with pytest.raises(PolicyError, match="will not recover"):
        asyncio.run(main())
    policy.close()


def test_a_law_that_vllm_cannot_have(aligner):
    with pytest.raises(ConfigError, match="temperature must be in"):
        aligner.generate("First", Sampling(temperature=3.0), strategy=Plain(max_tokens=4))


@pytest.mark.parametrize("backend", ["in_process", "async"])
def test_a_closed_engine(backend, capfd):
    """What is open fails, what comes later too, and nobody reports a crash."""
    policy = VllmPolicy.start(POLICY, backend=backend, **SMALL)

    async def main():
        endless = policy.with_sampling(
            Sampling(logit_bias=((policy.engine.tokenizer.eos_token_id, -100.0),))
        )
        drawing = asyncio.ensure_future(endless.extend((5,), max_new_tokens=500, key=Key(0)))
        while not policy.engine.num_open:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(policy.close)
        with pytest.raises(PolicyError, match="was closed"):
            await drawing

    asyncio.run(main())
    policy.close()
    with pytest.raises(PolicyError, match="was closed"):
        asyncio.run(policy.extend((5,), max_new_tokens=1, key=Key(0)))
    assert not re.search("ERROR|Traceback", "".join(capfd.readouterr()))


def test_failed_rewards_do_not_lose_the_rest(policy):
    def picky(prompt, response):
        if prompt == problems("heldout", 2)[1].question:
            raise ValueError("planned")
        return float(len(response))

    with Aligner(policy, picky, BestOf(n=2, inner=Plain(max_tokens=48))) as aligner:
        results = aligner.generate(ASKED, on_error="return")
        assert [type(r.error) for r in results] == [type(None), RewardError, type(None)]
        assert results[1].error.response is not None


def test_a_budget_in_seconds_returns_what_was_drawn(policy):
    """The engine tells what a cancelled request had drawn."""
    from rsalign import Budget

    eos = policy.engine.tokenizer.eos_token_id
    endless = policy.with_sampling(Sampling(logit_bias=((eos, -100.0),)))
    with Aligner(endless, None, Plain(max_tokens=400)) as aligner:
        (answer,) = aligner.generate("First 1 + 1", budget=Budget(seconds=0.15))
    assert answer.alignment.expired
    assert 0 < len(answer.outputs[0].token_ids) < 400
    assert answer.alignment.usage.policy_tokens_drawn == len(answer.outputs[0].token_ids)
