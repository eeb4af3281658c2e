"""Both of vLLM's interfaces, driven by hand on CPU tensors, decide as the segmenters say."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

from rsalign.hooks import v1, v2
from rsalign.segmenters import Entropy, Punctuation

VOCAB, SENTINEL, LENGTH, MAX_SEQS = 13, 12, 24, 8
TEXTS = [f"t{i}" for i in range(VOCAB - 3)] + ["x.", "?", ""]
BOUNDARIES = [Entropy(1.9, 3), Punctuation(".?", 1.6, 2), Entropy(1.5, 5), None]
CONFIG = SimpleNamespace(
    model_config=SimpleNamespace(get_vocab_size=lambda: VOCAB),
    scheduler_config=SimpleNamespace(max_num_seqs=MAX_SEQS),
)


@pytest.fixture(autouse=True)
def _vocabulary(monkeypatch):
    class Tokenizer:
        def __len__(self):
            return VOCAB

        def decode(self, tokens, skip_special_tokens):
            return TEXTS[tokens[0]]

    monkeypatch.setattr("vllm.tokenizers.cached_tokenizer_from_config", lambda config: Tokenizer())


class Request:
    """What it would draw at each position, sentinel excluded, is fixed in advance."""

    def __init__(self, number):
        generator = torch.Generator().manual_seed(number)
        self.boundary = BOUNDARIES[number % len(BOUNDARIES)]
        self.logits = torch.randn(LENGTH, VOCAB, generator=generator) * 1.5
        self.noise = torch.randn(LENGTH, VOCAB, generator=generator)
        self.prompt, self.drawn = 3 + number % 5, []
        extra = self.boundary and {**self.boundary.engine_arguments, "rsalign_sentinel": SENTINEL}
        self.params = SamplingParams(extra_args=extra, stop_token_ids=[SENTINEL])

    @property
    def done(self):
        return len(self.drawn) == LENGTH or SENTINEL in self.drawn

    def draw(self, logits):
        self.drawn.append(int((logits + self.noise[len(self.drawn)]).argmax()))

    def expected(self):
        law = self.logits.double().softmax(-1)
        entropy = (-torch.special.xlogy(law, law).sum(-1)).tolist()
        tokens = []
        for j in range(LENGTH):
            if self.boundary and j and self.boundary.ends_before(j, entropy[j]):
                return [*tokens, SENTINEL]
            scores = self.logits[j] + self.noise[j]
            if self.boundary:
                scores[SENTINEL] = -math.inf
            tokens.append(int(scores.argmax()))
            if self.boundary is None and tokens[-1] == SENTINEL:
                return tokens
            if self.boundary and self.boundary.ends_after(j + 1, entropy[j], TEXTS[tokens[-1]]):
                return tokens if j + 1 == LENGTH else [*tokens, SENTINEL]
        return tokens


def run_v1(requests, disturb):
    """vLLM's first runner: rows are compact; what leaves may come back; rows are swapped."""
    hook = v1.SegmentEnd(CONFIG, torch.device("cpu"), False)
    waiting, batch, chance = list(requests), [], torch.Generator().manual_seed(0)
    while waiting or batch:
        removed, added, moved = [], [], []
        for row in reversed(range(len(batch))):
            preempted = (
                disturb and not batch[row].done and bool(torch.rand((), generator=chance) < 0.1)
            )
            if batch[row].done or preempted:
                if preempted:
                    waiting.insert(0, batch[row])
                removed.append(row)
                last = batch.pop()
                if row < len(batch):
                    batch[row] = last
                    moved.append((len(batch), row, MoveDirectionality.UNIDIRECTIONAL))
        hook.update_state(BatchUpdate(len(batch), removed, [], moved) if removed else None)
        while waiting and len(batch) < 5:
            batch.append(waiting.pop(0))
            new = batch[-1]
            added.append((len(batch) - 1, new.params, [0] * new.prompt, new.drawn))
        swapped = []
        if disturb and len(batch) > 2:
            batch[0], batch[2] = batch[2], batch[0]
            swapped.append((0, 2, MoveDirectionality.SWAP))
        hook.update_state(BatchUpdate(len(batch), [], added, swapped))
        if batch:
            logits = torch.stack([request.logits[len(request.drawn)] for request in batch])
            for request, row in zip(batch, hook.apply(logits), strict=True):
                request.draw(row)


def run_v2(requests):
    """vLLM's second runner: slots are kept; rows are in another order at every step."""
    prompts = torch.zeros(MAX_SEQS, dtype=torch.int32)
    states = SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=MAX_SEQS,
        vocab_size=VOCAB,
        prompt_len=SimpleNamespace(gpu=prompts),
    )
    hook = v2.SegmentEnd(CONFIG, states)
    waiting, slots, chance = list(requests), {}, torch.Generator().manual_seed(0)
    while waiting or slots:
        for slot in [slot for slot, request in slots.items() if request.done]:
            del slots[slot]
        while waiting and len(slots) < 5:
            free = torch.randperm(MAX_SEQS, generator=chance).tolist()
            slot = next(slot for slot in free if slot not in slots)
            slots[slot] = waiting.pop(0)
            prompts[slot] = slots[slot].prompt
            asks = hook.add_request(slot, slots[slot].params)
            assert asks == (slots[slot].boundary is not None)
        hook.apply_staged_writes()
        if not slots:
            break
        shuffled = torch.randperm(len(slots), generator=chance)
        mapping = torch.tensor(list(slots), dtype=torch.int32)[shuffled]
        batch = [slots[slot] for slot in mapping.tolist()]
        context = LogitsContext(
            expanded_idx_mapping=mapping,
            idx_mapping=mapping,
            idx_mapping_np=mapping.numpy(),
            expanded_local_pos=torch.zeros(len(batch), dtype=torch.int32),
            # the token before the first is the prompt's, and a mark: no response ends with it
            input_ids=torch.tensor([([VOCAB - 2, *r.drawn])[-1] for r in batch]),
            pos=torch.tensor([r.prompt + len(r.drawn) - 1 for r in batch]),
            seq_lens_upper_bound_np=np.array([r.prompt + len(r.drawn) for r in batch]),
        )
        logits = torch.stack([request.logits[len(request.drawn)] for request in batch])
        for request, row in zip(batch, hook.apply(logits, context), strict=True):
            request.draw(row)


@pytest.mark.parametrize(
    "run", [lambda r: run_v1(r, False), lambda r: run_v1(r, True), run_v2], ids=["v1", "torn", "v2"]
)
def test_segments_end_where_the_segmenters_say(run):
    requests = [Request(number) for number in range(120)]
    run(requests)
    for request in requests:
        assert request.drawn == request.expected()
    ends = [len(r.drawn) for r in requests if r.boundary and r.drawn[-1] == SENTINEL]
    assert len(ends) > 60
    assert len(set(ends)) > 5


def test_nothing_is_touched_when_nobody_asks():
    class Untouchable:
        pass

    hook = v1.SegmentEnd(CONFIG, torch.device("cpu"), False)
    hook.update_state(BatchUpdate(1, [], [(0, SamplingParams(), [1], [])], []))
    logits = Untouchable()
    assert hook.apply(logits) is logits


@pytest.mark.parametrize("interface", [v1, v2])
def test_vllm_loads_the_class_by_its_path_and_hears_its_refusals(interface):
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.sample.logits_processor import (
        validate_logits_processors_parameters as validate,
    )
    from vllm.v1.worker.gpu.sample.logits_processor import (
        build_custom_logits_processors_params_validator as build,
    )

    path = f"{interface.__name__}:SegmentEnd"
    check = build([path]) if interface is v2 else partial(validate, [path])
    with pytest.raises(VLLMValidationError, match="there are only"):
        check(SamplingParams(extra_args={"rsalign_treshold": 1}))
    check(SamplingParams(extra_args={"theirs": 1}))
