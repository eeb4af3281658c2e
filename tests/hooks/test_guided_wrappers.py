"""Both of vLLM's interfaces, played by hand, give each request the law of whole texts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

from rsalign import ConfigError
from rsalign.hooks import v1, v2
from rsalign.hooks.guided.guide_model import GuideModel
from rsalign.hooks.guided.request import Guide, write_guidance
from rsalign.hooks.guided.rule import Guides

VOCAB, EOS, LENGTH, MAX_SEQS = 23, 1, 14, 6
CPU = torch.device("cpu")
GUIDES = (Guide("one"), Guide("two", "one"), Guide("one", "policy"))
ALPHAS = [(0.5,), (0.0, 1.0), (), (-0.3, 0.7, 0.2), (0.0, 0.0, -1.0), (0.0, 0.0, 0.0, 1.0)]


@pytest.fixture(scope="module")
def models():
    def tiny(seed, vocab):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.5,
        )
        return LlamaForCausalLM(config).double().eval()

    return {"one": tiny(0, VOCAB), "two": tiny(1, VOCAB - 2)}


@pytest.fixture(autouse=True)
def loaded(models, monkeypatch):
    guides = []

    def load(config, device):
        reading = {name: GuideModel(model) for name, model in models.items()}
        guides.append(Guides(GUIDES, reading, VOCAB, EOS))
        return guides[-1]

    monkeypatch.setattr(Guides, "load", load)
    return guides


class Request:
    """The policy's logits, and what is drawn, are fixed in advance."""

    def __init__(self, number):
        generator = torch.Generator().manual_seed(number)
        self.alphas = ALPHAS[number % len(ALPHAS)]
        self.prompt = torch.randint(2, VOCAB - 2, (2 + number % 7,), generator=generator).tolist()
        self.logits = torch.randn(LENGTH, VOCAB, generator=generator)
        self.logits[3, 7] = -float("inf")
        self.plan = torch.randint(2, VOCAB - 2, (LENGTH,), generator=generator).tolist()
        self.params = SamplingParams(extra_args=write_guidance(self.alphas) or None)
        self.drawn, self.seen = [], []

    @property
    def done(self):
        return len(self.drawn) == LENGTH

    def step(self, logits):
        self.seen.append(logits.clone())
        self.drawn.append(self.plan[len(self.drawn)])

    @torch.inference_mode()
    def expected(self, models):
        if not self.alphas:
            return self.logits
        if len(self.alphas) > len(GUIDES):
            return torch.full((LENGTH, VOCAB), -float("inf")).index_fill(1, torch.tensor(EOS), 0.0)
        ids = torch.tensor([self.prompt + self.plan])
        first = len(self.prompt) - 1
        one, two = (
            models[name](ids).logits[0, first:-1].log_softmax(-1)[:, : VOCAB - 2]
            for name in ("one", "two")
        )
        own = self.logits.double().log_softmax(-1)[:, : VOCAB - 2]
        own = own.masked_fill(own.isinf(), 0)
        a, b, c = (*self.alphas, 0.0, 0.0)[:3]
        law = self.logits.double().clone()
        law[:, : VOCAB - 2] += a * one + b * (two - one) + c * (one - own)
        law[:, VOCAB - 2 :] = -float("inf")
        return law


def right(requests, models):
    for request in requests:
        got = torch.stack(request.seen).double().softmax(-1)
        want = request.expected(models).double().softmax(-1)
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-4)
    return True


def run_v1(requests):
    """Rows are compact; what leaves may come back; rows are swapped."""
    hook = v1.Guided(SimpleNamespace(), CPU, False)
    waiting, batch, chance = list(requests), [], torch.Generator().manual_seed(0)
    while waiting or batch:
        removed, moved, added = [], [], []
        for row in reversed(range(len(batch))):
            preempted = not batch[row].done and bool(torch.rand((), generator=chance) < 0.1)
            if batch[row].done or preempted:
                waiting[:0] = [batch[row]] if preempted else []
                removed.append(row)
                last = batch.pop()
                if row < len(batch):
                    batch[row] = last
                    moved.append((len(batch), row, MoveDirectionality.UNIDIRECTIONAL))
        hook.update_state(BatchUpdate(len(batch), removed, [], moved) if removed else None)
        while waiting and len(batch) < 4:
            batch.append(waiting.pop(0))
            new = batch[-1]
            added.append((len(batch) - 1, new.params, new.prompt, new.drawn))
        swapped = [(0, 2, MoveDirectionality.SWAP)] if len(batch) > 2 else []
        if swapped:
            batch[0], batch[2] = batch[2], batch[0]
        hook.update_state(BatchUpdate(len(batch), [], added, swapped))
        if batch:
            logits = torch.stack([request.logits[len(request.drawn)] for request in batch])
            for request, row in zip(batch, hook.apply(logits), strict=True):
                request.step(row)
    return hook


def run_v2(requests):
    """Slots are kept, rows are in another order at every step, and some are left out of it.

    What is preempted comes back in another slot, after others were there.
    """
    tokens = torch.zeros(MAX_SEQS, 64, dtype=torch.int32)
    states = SimpleNamespace(device=CPU, all_token_ids=SimpleNamespace(gpu=tokens))
    hook = v2.Guided(SimpleNamespace(), states)
    waiting, slots, chance = list(requests), {}, torch.Generator().manual_seed(0)
    while waiting or slots:
        for slot, request in list(slots.items()):
            preempted = request.drawn and bool(torch.rand((), generator=chance) < 0.1)
            if request.done or preempted:
                del slots[slot]
                waiting[1:1] = [] if request.done else [request]
        while waiting and len(slots) < 4:
            free = torch.randperm(MAX_SEQS, generator=chance).tolist()
            slot = next(slot for slot in free if slot not in slots)
            slots[slot] = waiting.pop(0)
            assert hook.add_request(slot, slots[slot].params) is bool(slots[slot].alphas)
        for slot, request in slots.items():
            written = torch.tensor(request.prompt + request.drawn)
            tokens[slot] = 0
            tokens[slot, : len(written)] = written
        order = torch.randperm(len(slots), generator=chance)
        mapping = torch.tensor(list(slots), dtype=torch.int32)[order][: max(1, len(slots) - 1)]
        batch = [slots[slot] for slot in mapping.tolist()] if slots else []
        if not batch:
            break
        lengths = np.array([len(r.prompt) + len(r.drawn) for r in batch])
        context = LogitsContext(
            expanded_idx_mapping=mapping,
            idx_mapping=mapping,
            idx_mapping_np=mapping.numpy(),
            expanded_local_pos=torch.zeros(len(batch), dtype=torch.int32),
            input_ids=torch.tensor([(r.prompt + r.drawn)[-1] for r in batch]),
            pos=torch.from_numpy(lengths - 1),
            seq_lens_upper_bound_np=lengths,
        )
        logits = torch.stack([request.logits[len(request.drawn)] for request in batch])
        for request, row in zip(batch, hook.apply(logits, context), strict=True):
            request.step(row)
    return hook


@pytest.mark.parametrize("run", [run_v1, run_v2])
def test_every_request_has_its_own_law(run, models, loaded):
    requests = [Request(number) for number in range(20)]
    run(requests)
    assert right(requests, models)
    (guides,) = loaded
    asked = sum(len(r.prompt) + LENGTH for r in requests if 0 < len(r.alphas) <= len(GUIDES))
    # each token once, and one for each time that a request came back
    assert guides.models["one"].num_read < 1.3 * asked
    assert guides.models["two"].num_read < guides.models["one"].num_read


@pytest.mark.parametrize("hook", [v1.Guided, v2.Guided])
def test_parameters_are_checked_when_a_request_is_submitted(hook):
    entropy = {"rsalign_guided_alpha": 1, "rsalign_entropy_threshold": 3}  # another hook's
    hook.validate_params(SamplingParams(extra_args=entropy | {"theirs": 1, "rsalign": "none"}))
    for wrong, says in (
        ({"rsalign_guided_alfa": 1.0}, "there are only .*rsalign_guided_alpha"),
        ({"rsalign_guided_alpha_x": 1.0}, "there are only .*rsalign_guided_alpha_1"),
        ({"rsalign": "best_of"}, "goes to the engine itself"),
    ):
        with pytest.raises(ConfigError, match=says):
            hook.validate_params(SamplingParams(extra_args=wrong))
    hook.validate_params(SamplingParams(repetition_penalty=1.5))
    with pytest.raises(ConfigError, match="give a number"):
        hook.validate_params(SamplingParams(extra_args={"rsalign_guided_alpha": "1"}))
    guided = {"rsalign_guided_alpha": 1.0}
    with pytest.raises(ConfigError, match="has no meaning for a guided law"):
        hook.validate_params(SamplingParams(extra_args=guided, repetition_penalty=1.5))


def test_a_prompt_in_parts(models, loaded):
    """The first runner asks about a prompt that it has not read to the end; so does the second."""
    request = Request(0)
    hook = v1.Guided(SimpleNamespace(), CPU, False)
    hook.update_state(BatchUpdate(1, [], [(0, request.params, request.prompt, request.drawn)], []))
    for _ in range(3):
        last = hook.apply(request.logits[:1].clone())
    tokens = torch.tensor([request.prompt + [0] * 9], dtype=torch.int32)
    states = SimpleNamespace(device=CPU, all_token_ids=SimpleNamespace(gpu=tokens))
    second = v2.Guided(SimpleNamespace(), states)
    second.add_request(0, request.params)
    zero = torch.zeros(1, dtype=torch.int32)
    for length in range(1, len(request.prompt) + 1):
        context = LogitsContext(
            expanded_idx_mapping=zero,
            idx_mapping=zero,
            idx_mapping_np=zero.numpy(),
            expanded_local_pos=zero,
            input_ids=tokens[0, length - 1 : length],
            pos=zero + length - 1,
            seq_lens_upper_bound_np=np.array([length]),
        )
        guided = second.apply(request.logits[:1].clone(), context)
    want = request.expected(models)[:1].softmax(-1)
    for got in (last, guided):
        torch.testing.assert_close(got.double().softmax(-1), want, atol=2e-6, rtol=1e-4)


def test_a_prompt_of_embeddings_cannot_be_guided(loaded):
    request = Request(0)
    hook = v1.Guided(SimpleNamespace(), CPU, False)
    hook.update_state(BatchUpdate(1, [], [(0, request.params, None, request.drawn)], []))
    assert hook.apply(request.logits[:1].clone()).softmax(-1)[0, EOS] == 1
