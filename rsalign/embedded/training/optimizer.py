"""Muon for the matrices, AdamW for the rest.

On these models Muon decides whether training takes minutes or hours: it reaches an accuracy in
five minutes at which AdamW alone has learned almost nothing.
"""

from collections.abc import Iterable

import torch


class Optimizer:
    """Muon for matrices and AdamW for all other parameters, including embeddings and heads."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        *,
        matrix_learning_rate: float,
        other_learning_rate: float,
    ) -> None:
        named = [(name, p) for name, p in named_parameters if p.requires_grad]
        matrices = [p for name, p in named if _is_matrix(name, p)]
        others = [p for name, p in named if not _is_matrix(name, p)]
        self._parameters = [p for _, p in named]
        self._optimizers = (
            torch.optim.Muon(matrices, lr=matrix_learning_rate, weight_decay=0.01, momentum=0.95),
            torch.optim.AdamW(others, lr=other_learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self._base = [
            [group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers
        ]

    def step(self, loss: torch.Tensor, schedule: float) -> None:
        """Makes one step of both optimizers, with learning rates multiplied by `schedule`."""
        for optimizer, rates in zip(self._optimizers, self._base, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()


def _is_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    return parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "score"))
