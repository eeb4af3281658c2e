"""The logits in what a model of transformers returns, whatever the model calls them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rsalign.core.errors import ConfigError


def read_rows(output: Any, ends: Sequence[int], *, wants_labels: bool) -> list[list[float]]:
    """Returns the values of each sequence, ``(batch, labels)``.

    Models of transformers return ``logits``. Those with code of their own may return a ``score``
    that they make of several ``rewards`` (ArmoRM), a tensor, or a tuple. If a value for each token
    is returned, that of the last token is meant.

    Args:
        output: what the model returned.
        ends: the index of the last token of each sequence, ``(batch,)``.
        wants_labels: whether a label was chosen, so that several values are better than one score.

    Raises:
        ConfigError: if there are no such values.

    Example:
        >>> import torch
        >>> output = {"rewards": torch.zeros(1, 3), "score": torch.ones(1)}
        >>> read_rows(output, [4], wants_labels=False)
        [[1.0]]
        >>> read_rows(output, [4], wants_labels=True)
        [[0.0, 0.0, 0.0]]
    """
    if isinstance(output, Mapping):
        named = dict(output)
    elif isinstance(output, list | tuple):
        named = {f"[{i}]": each for i, each in enumerate(output)}
    else:
        named = {"the output": output}
    first = ("logits", "rewards", "score") if wants_labels else ("score", "logits", "rewards")
    order = [name for name in first if name in named]
    order += [name for name in named if name not in first]
    found = [rows for name in order if (rows := _rows(named[name], ends)) is not None]
    # one value comes before several, or after them; the sort is stable
    found.sort(key=lambda rows: (rows.shape[1] == 1) == wants_labels)
    if not found:
        raise ConfigError(
            f"the reward model returns {', '.join(named)}, none of which has one value, or one for "
            "each label, of a sequence: give a model that returns logits"
        )
    values: list[list[float]] = found[0].float().tolist()
    return values


def _rows(values: Any, ends: Sequence[int]) -> Any:
    """Values as a tensor ``(batch, labels)``; None if they are something else."""
    import torch

    if not isinstance(values, torch.Tensor) or values.shape[:1] != (len(ends),):
        return None
    if values.dim() == 1:
        return values[:, None]
    if values.dim() == 3 and values.shape[1] > max(ends):
        return values[torch.arange(len(ends)), torch.tensor(ends)]
    return values if values.dim() == 2 else None
