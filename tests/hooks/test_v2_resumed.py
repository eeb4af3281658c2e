"""What is remembered of requests that have left their slots goes to those that come back alone."""

from types import SimpleNamespace

import torch

from rsalign.hooks.shared.memory import UNKNOWN
from rsalign.hooks.shared.v2_resumed import LeftRequests


def test_only_the_same_tokens_of_the_same_request_are_found():
    tokens = torch.tensor([[4, 5, 6, 7, 0], [4, 5, 6, 7, 0], [4, 5, 7, 6, 0], [4, 5, 6, 0, 0]])
    lengths = torch.tensor([4, 4, 4, 3])
    states = SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=4,
        all_token_ids=SimpleNamespace(gpu=tokens.int()),
        prefill_len=SimpleNamespace(np=lengths.numpy()),
        total_len=SimpleNamespace(gpu=lengths.int()),
    )
    left = LeftRequests(states, (2,), torch.float32)
    values = torch.full((4, 2), UNKNOWN)
    left.add(0, 9, torch.tensor([0.25, 0.5]))
    # the same; another request; other tokens; the same without the token that was drawn ahead
    left.restore(values, {1: 9, 2: 9, 3: 9}, {})
    assert values.tolist() == [[UNKNOWN] * 2, [0.25, 0.5], [UNKNOWN] * 2, [0.25, 0.5]]
    left.restore(values, {1: 8}, {})
    assert values[1].tolist() == [UNKNOWN] * 2
