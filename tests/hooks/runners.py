"""vLLM's two model runners, played by hand on CPU tensors: how each calls a logits processor."""

import math
from types import SimpleNamespace

import numpy as np
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

from rsalign.core.segment_ends import place_boundary

VOCAB, SENTINEL, LENGTH, MAX_SEQS = 13, 12, 24, 8
TEXTS = [f"t{i}" for i in range(VOCAB - 3)] + ["x.", "?", ""]
CONFIG = SimpleNamespace(
    model_config=SimpleNamespace(get_vocab_size=lambda: VOCAB, max_model_len=40),
    scheduler_config=SimpleNamespace(max_num_seqs=MAX_SEQS),
)


class Tokenizer:
    """Of the vocabulary above."""

    def __len__(self):
        return VOCAB

    def decode(self, tokens, skip_special_tokens):
        return TEXTS[tokens[0]]


class Request:
    """What it would draw at each position, sentinel excluded, is fixed in advance."""

    def __init__(self, number, boundary, *, shared=False, **extra):
        generator = torch.Generator().manual_seed(number)
        self.boundary, self.shared = boundary, shared
        self.logits = torch.randn(LENGTH, VOCAB, generator=generator) * 1.5
        self.noise = torch.randn(LENGTH, VOCAB, generator=generator)
        self.prompt, self.drawn = 3 + number % 5, []
        if boundary:
            name = "rsalign_shared_sentinel" if shared else "rsalign_sentinel"
            extra |= {**boundary.engine_arguments, name: SENTINEL}
        self.params = SamplingParams(
            max_tokens=LENGTH, extra_args=extra or None, stop_token_ids=[SENTINEL]
        )

    @property
    def done(self):
        return len(self.drawn) == LENGTH or SENTINEL in self.drawn

    @property
    def tokens(self):
        """Of prompt and response; prompts of one length are equal."""
        return [1] * self.prompt + self.drawn

    @property
    def law(self):
        """Of each token, in float64, ``(tokens, vocab)``."""
        return self.logits.double().softmax(-1)

    @property
    def entropies(self):
        return (-torch.special.xlogy(self.law, self.law).sum(-1)).tolist()

    def draw(self, logits):
        self.drawn.append(int((logits + self.noise[len(self.drawn)]).argmax()))

    def expected(self):
        """What it draws, by the segmenter's own words."""
        return self.outcome()[0]

    def outcome(self):
        """What it draws, and whether the segmenter ended it by the sentinel."""
        entropy, tokens = self.entropies, []
        boundary = place_boundary(self.boundary, self.prompt)
        for j in range(LENGTH):
            if boundary and j and boundary.ends_before(j, entropy[j]):
                return [*tokens, SENTINEL], True
            scores = self.logits[j] + self.noise[j]
            if self.boundary and not self.shared:
                scores[SENTINEL] = -math.inf
            tokens.append(int(scores.argmax()))
            if tokens[-1] == SENTINEL:
                return tokens, False
            if boundary and boundary.ends_after(j + 1, entropy[j], TEXTS[tokens[-1]]):
                by_sentinel = j + 1 < LENGTH
                return [*tokens, SENTINEL] if by_sentinel else tokens, by_sentinel
        return tokens, False


def run_v1(classes, requests, *, disturb, ended=lambda request: None):
    """The first runner: rows are compact; what leaves may come back; rows are swapped."""
    hooks = [each(CONFIG, torch.device("cpu"), False) for each in classes]
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
        for hook in hooks:
            hook.update_state(BatchUpdate(len(batch), removed, [], moved) if removed else None)
        while waiting and len(batch) < 5:
            batch.append(waiting.pop(0))
            new = batch[-1]
            added.append((len(batch) - 1, new.params, [0] * new.prompt, new.drawn))
        swapped = []
        if disturb and len(batch) > 2:
            batch[0], batch[2] = batch[2], batch[0]
            swapped.append((0, 2, MoveDirectionality.SWAP))
        for hook in hooks:
            hook.update_state(BatchUpdate(len(batch), [], added, swapped))
        if batch:
            logits = torch.stack([request.logits[len(request.drawn)] for request in batch])
            for hook in hooks:
                logits = hook.apply(logits)
            _draw(batch, logits, ended)


def run_v2(classes, requests, *, disturb, ended=lambda request: None):
    """The second runner: slots are kept; rows are in another order at every step.

    What is preempted comes back in another slot, after others were there; sometimes without the
    token that it drew last, as where steps are scheduled ahead.
    """
    prompts, filled, totals = (torch.zeros(MAX_SEQS, dtype=torch.int32) for _ in range(3))
    tokens = torch.zeros(MAX_SEQS, 40, dtype=torch.int32)
    states = SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=MAX_SEQS,
        vocab_size=VOCAB,
        all_token_ids=SimpleNamespace(gpu=tokens),
        prompt_len=SimpleNamespace(gpu=prompts, np=prompts.numpy()),
        prefill_len=SimpleNamespace(gpu=filled, np=filled.numpy()),
        total_len=SimpleNamespace(gpu=totals),
    )
    hooks = [each(CONFIG, states) for each in classes]
    waiting, slots, chance = list(requests), {}, torch.Generator().manual_seed(0)
    while waiting or slots:
        for slot in [slot for slot, request in slots.items() if request.done]:
            del slots[slot]
        for slot in [slot for slot, request in slots.items() if request.drawn]:
            if disturb and bool(torch.rand((), generator=chance) < 0.1):
                waiting.insert(3, slots.pop(slot))
                if bool(torch.rand((), generator=chance) < 0.5):
                    del waiting[min(3, len(waiting) - 1)].drawn[-1]
        new = []
        while waiting and len(slots) < 5:
            free = torch.randperm(MAX_SEQS, generator=chance).tolist()
            slot = next(slot for slot in free if slot not in slots)
            slots[slot] = waiting.pop(0)
            new.append(slot)
            prompts[slot] = slots[slot].prompt
            filled[slot] = len(slots[slot].tokens)
            asks = [hook.add_request(slot, slots[slot].params) for hook in hooks]
            assert any(asks) == (slots[slot].params.extra_args is not None)
        for slot in new:  # vLLM writes tokens when all requests have been added
            _write(slots[slot], tokens[slot], totals[slot])
        for hook in hooks:
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
        for hook in hooks:
            logits = hook.apply(logits, context)
        _draw(batch, logits, ended)
        for slot, request in slots.items():
            _write(request, tokens[slot], totals[slot])


def _write(request, row, total):
    row[: len(request.tokens)] = torch.tensor(request.tokens)
    total.fill_(len(request.tokens))


def _draw(batch, logits, ended):
    for request, row in zip(batch, logits, strict=True):
        request.draw(row)
        if request.done:
            ended(request)
