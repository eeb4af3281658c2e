"""A model is told by its files and by how it is run, on the real engine; not by where it lies."""

import asyncio
import json
import os
import shutil
import struct

import pytest
from server import Server

from rsalign import Aligner, BestOf, ConfigError, Plain, Sampling
from rsalign.core.journal import Journal
from rsalign.core.journaled import JournaledPolicy
from rsalign.core.key import Key
from rsalign.embedded import POLICY, REWARD
from rsalign.engines import model_files
from rsalign.engines.answers import ServedModel
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.vllm.identity import EngineIdentity
from rsalign.policies.vllm import VllmPolicy
from rsalign.policies.vllm_server import VllmServerPolicy
from rsalign.rewards.classifier import TransformersReward
from rsalign.rewards.vllm import VllmReward

SMALL = {"kv_cache_memory_bytes": 64 << 20}
BEST = BestOf(n=4, inner=Plain(max_tokens=16))


def copied(source, target):
    shutil.copytree(source, target)
    return target


def retrained(source, target, tensor=None):
    """A copy in which one number of one tensor is another."""
    file = copied(source, target) / "model.safetensors"
    data = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    names = sorted(name for name in header if name != "__metadata__")
    begin, end = header[tensor or names[0]]["data_offsets"]
    for at in range(8 + length + begin, 8 + length + end, 4):
        (value,) = struct.unpack("<f", data[at : at + 4])
        data[at : at + 4] = struct.pack("<f", value * 1.5 + 0.01)
    file.write_bytes(data)
    return target


def test_folders_are_told_by_content(tmp_path):
    moved = copied(POLICY, tmp_path / "moved")
    original = ModelFiles.of(str(POLICY)).digest()
    assert ModelFiles.of(str(moved)).digest() == original
    for nothing in ("README.md", ".gitattributes", "training_args.bin", "optimizer.pt"):
        (moved / nothing).write_text("x")
    (moved / "checkpoint-500").mkdir()
    (moved / "checkpoint-500" / "config.json").write_text("{}")
    assert ModelFiles.of(str(moved)).digest() == original
    link = tmp_path / "link"
    link.symlink_to(moved)
    assert ModelFiles.of(str(link)).digest() == original
    assert ModelFiles.of(str(retrained(POLICY, tmp_path / "retrained"))).digest() != original
    for name in sorted(file.name for file in moved.iterdir() if file.suffix in (".json", ".jinja")):
        other = copied(moved, tmp_path / f"other {name}")
        (other / name).write_text((other / name).read_text() + " ")
        assert ModelFiles.of(str(other)).digest() != original, name
    (moved / "1_Pooling").mkdir()
    (moved / "1_Pooling" / "config.json").write_text("{}")
    assert ModelFiles.of(str(moved)).digest() != original


def test_large_files_are_sampled_in_every_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "WHOLE_BYTES", 1000)
    model_files.digest_file.cache_clear()
    original = ModelFiles.of(str(POLICY)).digest()
    header = json.loads((POLICY_FILE := _weights(POLICY))[8 : 8 + _header_length(POLICY_FILE)])
    for i, tensor in enumerate(sorted(name for name in header if name != "__metadata__")):
        other = retrained(POLICY, tmp_path / str(i), tensor)
        assert ModelFiles.of(str(other)).digest() != original, tensor
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(bytes(100_000))
    before = ModelFiles.of(str(weights)).digest()
    weights.write_bytes(bytes(100_001))
    assert ModelFiles.of(str(weights)).digest() != before
    model_files.digest_file.cache_clear()


def _weights(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        return file.read()


def _header_length(data):
    return struct.unpack("<Q", data[:8])[0]


def test_a_folder_that_changed_since_is_refused(tmp_path):
    folder = copied(POLICY, tmp_path / "folder")
    files = ModelFiles.of(str(folder))
    before = files.digest()
    retrained(POLICY, tmp_path / "new")
    shutil.copy(tmp_path / "new" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ConfigError, match="have changed since it was started"):
        files.digest()
    assert ModelFiles.of(str(folder)).digest() != before


def test_an_id_is_its_snapshot_or_its_name(tmp_path):
    assert ModelFiles.of("someone/unknown").digest() == "someone/unknown"
    assert ModelFiles.of("someone/unknown", "v2").digest() == "someone/unknown@v2"
    assert ModelFiles.of("s3://bucket/model").digest() == "s3://bucket/model"
    cache = tmp_path / "cache" / "models--someone--known"
    snapshots = {name: cache / "snapshots" / name for name in ("a" * 40, "b" * 40)}
    copied(POLICY, snapshots["a" * 40])
    retrained(POLICY, snapshots["b" * 40])
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    (cache / "refs" / "v2").write_text("b" * 40)
    told = {
        revision: ModelFiles.of("someone/known", revision, str(tmp_path / "cache")).digest()
        for revision in (None, "v2", "a" * 40)
    }
    assert told[None] == told["a" * 40] == ModelFiles.of(str(POLICY)).digest()
    assert told["v2"] == ModelFiles.of(str(snapshots["b" * 40])).digest() != told[None]


def test_servers_are_told_by_what_they_list(tmp_path):
    def served(*cards, model=None, version=None):
        import dataclasses

        found = ServedModel.choose({"data": list(cards)}, model, "http://somewhere")
        return dataclasses.replace(found, version=version).identity

    moved = copied(POLICY, tmp_path / "moved")
    base = {"id": "base", "root": "/models/base"}
    told = [
        served(base),
        served({"id": "base", "root": "/models/other"}),
        served({"id": "other", "root": "/models/base"}),
        served(base, {"id": "lora", "root": "/loras/one", "parent": "base"}, model="lora"),
        served(base, {"id": "lora", "root": "/loras/two", "parent": "base"}, model="lora"),
        served({"id": "gpt"}),
        served({"id": "base", "root": str(moved)}),
        served(base, version="0.32.0"),
        served(base, version="0.33.0"),
    ]
    assert len(set(told)) == len(told)
    assert served({"id": "alias", "root": str(POLICY)}) == served({"id": "b", "root": str(moved)})
    assert served({"id": str(POLICY)}) == served({"id": str(moved)})


@pytest.mark.engine
def test_a_moved_model_replays_and_a_retrained_one_draws(policy, reward, tmp_path):
    prompts = ["First 1 + 1", "So 2 + 3"]

    def run(policy, reward):
        with Aligner(policy, reward, BEST, journal=tmp_path / "journal") as aligner:
            outputs = aligner.generate(prompts, use_tqdm=False)
        return [one.outputs for one in outputs], sum(o.alignment.usage.replayed for o in outputs)

    first, replayed = run(policy, reward)
    assert replayed == 0
    lines = len((tmp_path / "journal").read_text().splitlines())
    moved = VllmPolicy.start(str(copied(POLICY, tmp_path / "policy")), **SMALL)
    moved_reward = VllmReward.start(str(copied(REWARD, tmp_path / "reward")), **SMALL)
    try:
        assert moved.fingerprint == policy.fingerprint
        assert moved_reward.fingerprint == reward.fingerprint
        assert run(moved, moved_reward) == (first, 8)
        assert len((tmp_path / "journal").read_text().splitlines()) == lines
    finally:
        moved.close()
        moved_reward.close()
    other = VllmPolicy.start(str(retrained(POLICY, tmp_path / "retrained")), **SMALL)
    other_reward = VllmReward.start(
        str(retrained(REWARD, tmp_path / "other", "score.weight")), **SMALL
    )
    try:
        drawn, replayed = run(other, reward)
        assert replayed == 0
        assert drawn != first
        judged, replayed = run(policy, other_reward)
        assert replayed == 8
        assert [one.reward for one in judged[0]] != [one.reward for one in first[0]]
    finally:
        other.close()
        other_reward.close()


@pytest.mark.engine
def test_all_settings_that_change_what_is_drawn_count(policy, tmp_path, monkeypatch):
    import copy

    monkeypatch.syspath_prepend(tmp_path)

    config, tokenizer = policy.engine.vllm_config, policy.engine.tokenizer

    def told(where, name, value):
        changed = copy.copy(config)
        part = copy.copy(getattr(config, where))
        object.__setattr__(part, name, value)
        object.__setattr__(changed, where, part)
        return EngineIdentity.of(changed, tokenizer).fingerprint

    plain = EngineIdentity.of(config, tokenizer).fingerprint
    seen = {plain}
    for where, name, value in (
        ("model_config", "quantization", "fp8"),
        ("model_config", "hf_overrides", {"rope_theta": 5}),
        ("model_config", "hf_overrides", lambda config: config),
        ("model_config", "dtype", "bfloat16"),
        ("model_config", "max_model_len", 17),
        ("model_config", "model", str(REWARD)),
        ("model_config", "tokenizer", str(REWARD)),
        ("model_config", "override_generation_config", {"eos_token_id": 3}),
        ("model_config", "logits_processors", ["someone.else:Processor"]),
        ("cache_config", "cache_dtype", "fp8"),
    ):
        seen.add(told(where, name, value))
    for text in ("class Processor:\n    k = 1\n", "class Processor:\n    k = 2\n"):
        (tmp_path / "someones_processor.py").write_text(text)
        seen.add(told("model_config", "logits_processors", ["someones_processor:Processor"]))
    assert len(seen) == 13
    for where, name, value in (
        ("model_config", "served_model_name", "alias"),
        ("model_config", "seed", 5),
        ("scheduler_config", "max_num_seqs", 3),
        ("cache_config", "gpu_memory_utilization", 0.3),
    ):
        assert told(where, name, value) == plain, name
    spoken = copy.copy(tokenizer)
    spoken.chat_template = "{{ messages }}"
    assert EngineIdentity.of(config, spoken).fingerprint != plain
    laws = [Sampling(), Sampling(temperature=0.5), Sampling(stop=("x",)), Sampling(top_k=2)]
    assert len({policy.with_sampling(law).fingerprint for law in laws}) == len(laws)


@pytest.mark.engine
def test_the_other_model_runner_is_told(policy, monkeypatch):
    config, tokenizer = policy.engine.vllm_config, policy.engine.tokenizer
    plain = EngineIdentity.of(config, tokenizer).fingerprint
    monkeypatch.setattr(type(config), "use_v2_model_runner", property(lambda self: True))
    assert EngineIdentity.of(config, tokenizer).fingerprint != plain


@pytest.mark.engine
def test_rewards_of_transformers_are_told_by_content(tmp_path):
    rewards = [
        TransformersReward(str(folder))
        for folder in (
            REWARD,
            copied(REWARD, tmp_path / "moved"),
            retrained(REWARD, tmp_path / "other", "score.weight"),
        )
    ]
    told = [reward.fingerprint for reward in rewards]
    assert told[0] == told[1] != told[2]
    rewards[1].rendering.tokenizer.chat_template += "{# another #}"
    assert rewards[1].fingerprint != told[1]
    for reward in rewards:
        reward.close()


@pytest.mark.engine
def test_a_server_that_moved_is_the_same(served, tmp_path):
    moved = copied(POLICY, tmp_path / "moved")
    server = Server(tmp_path / "log", f"{moved} --served-model-name alias")
    try:
        there = VllmServerPolicy.connect(server.addresses()[0], processed_log_probs=True)
        assert there.model == "alias"
        assert there.fingerprint == served.fingerprint
        assert "vLLM 0." in there.fingerprint

        async def draw(policy, journal):
            return await JournaledPolicy(policy, journal).extend(
                (5, 6, 7), max_new_tokens=8, key=Key(3)
            )

        with Journal(tmp_path / "j") as journal:
            first, second = (asyncio.run(draw(one, journal)) for one in (served, there))
            assert first == second
            assert journal.statistics().recorded == 1
        there.close()
    finally:
        server.stop()
