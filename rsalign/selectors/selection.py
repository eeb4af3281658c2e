"""Which of several candidates is the answer. Pure rules: no await, no randomness."""

from collections.abc import Sequence


def best(rewards: Sequence[float]) -> int:
    """Index of the highest reward; among equals the first.

    Args:
        rewards: ``(candidates,)``, at least one.
    """
    return max(range(len(rewards)), key=rewards.__getitem__)
