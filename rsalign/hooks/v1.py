"""The segment end for vLLM's first model runner, which CPUs use."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from rsalign.engines.entropies import report
from rsalign.hooks.marks import Marks
from rsalign.hooks.request import SegmentRequest, read_request
from rsalign.hooks.segment_end import NO_TOKEN, Device, Rules, end_segments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class SegmentEnd(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Ends the requests that ask, by `end_segments`; does nothing for all others.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias).
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_request` refuses; vLLM hands the message to the caller."""
        read_request(
            sampling_params.extra_args,
            sampling_params.stop_token_ids or (),
            sampling_params.min_tokens,
        )

    def __init__(self, vllm_config: "VllmConfig", device: Device, is_pin_memory: bool) -> None:
        self._device = device
        self._marks = Marks(vllm_config.model_config, device)
        self._places = _Places(vllm_config.scheduler_config.max_num_seqs, device)
        self._rows: dict[int, _Row] = {}
        self._sent: tuple[Any, Any, Rules] | None = None

    def is_argmax_invariant(self) -> bool:
        """Not so: greedy requests end too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch: removed, added, moved, in this order."""
        if batch_update is None:
            return
        before = list(self._rows.items())
        for index in batch_update.removed:
            self._leave(index)
        for index, params, _, drawn in batch_update.added:
            self._leave(index)
            request = read_request(
                params.extra_args, params.stop_token_ids or (), params.min_tokens
            )
            if request is not None:
                self._rows[index] = self._places.take(request, drawn)
        for one, other, direction in batch_update.moved:
            moved, replaced = self._rows.pop(one, None), self._rows.pop(other, None)
            if moved is not None:
                self._rows[other] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self._rows[one] = replaced
            elif replaced is not None:
                self._places.leave(replaced)
        if list(self._rows.items()) != before:
            self._sent = None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """One step for the rows that ask; in place."""
        if not self._rows:
            return logits
        if self._sent is None:
            self._sent = self._send()
        rows, slots, rules = self._sent
        # lengths and last tokens are the host's own: the device is told, and never asked
        state = [
            [len(row.drawn) for row in self._rows.values()],
            [row.last for row in self._rows.values()],
        ]
        drawn, last = async_tensor_h2d(state, self._device, torch.int64)
        end_segments(
            logits,
            rows,
            slots,
            drawn,
            last,
            rules=rules,
            marks=self._marks.table,
            memory=self._places.memory,
        )
        return logits

    def _leave(self, index: int) -> None:
        row = self._rows.pop(index, None)
        if row is not None:
            self._places.leave(row)

    def _send(self) -> tuple[Any, Any, Rules]:
        requests = [row.request for row in self._rows.values()]
        kinds = [self._marks.row(request.marks) for request in requests]
        where = [list(self._rows), [row.slot for row in self._rows.values()]]
        rows, slots = async_tensor_h2d(where, self._device, torch.int64)
        return rows, slots, Rules.of(requests, kinds, self._device)


@dataclass(eq=False, slots=True)
class _Row:
    """A request in the batch; `drawn` is vLLM's own list, which grows."""

    request: SegmentRequest
    drawn: Sequence[int]
    slot: int
    kept: torch.Tensor | None = None

    @property
    def last(self) -> int:
        return self.drawn[-1] if self.drawn else NO_TOKEN


class _Places:
    """Who owns which slot of `memory`.

    vLLM removes a request from the batch when it has ended, but also when it is preempted, and then
    brings it back with the same list of drawn tokens. Preempted requests come before new ones, so
    that at most twice `max_num_seqs` others leave meanwhile.
    """

    def __init__(self, max_num_seqs: int, device: Device) -> None:
        self.memory = torch.full((3 * max_num_seqs, 2), -float("inf"), device=device)
        self._free = list(range(3 * max_num_seqs))
        self._left: OrderedDict[int, _Row] = OrderedDict()

    def take(self, request: SegmentRequest, drawn: Sequence[int]) -> _Row:
        row = self._left.pop(id(drawn), None)  # `_left` holds the list, so that no other has its id
        if row is not None:
            return row
        if not self._free:
            _, oldest = self._left.popitem(last=False)
            oldest.kept = self.memory[oldest.slot].clone()
            self._free.append(oldest.slot)
        row = _Row(request, drawn, self._free.pop())
        self.memory[row.slot] = -float("inf")
        if request.report:
            report(request.report, lambda num_drawn: self._read(row, num_drawn))
        return row

    def leave(self, row: _Row) -> None:
        self._left[id(row.drawn)] = row

    def _read(self, row: _Row, num_drawn: int) -> float:
        value = self.memory[row.slot, num_drawn % 2]
        if row.kept is not None:  # looked at last: the slot may get another owner at any time
            value = row.kept[num_drawn % 2]
        return float(value)
