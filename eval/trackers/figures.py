"""What trackers are told: a job's settings and its figures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eval.analysis.items import is_graded, is_ungradable, score
from eval.records import Record

_COSTS = ("policy_tokens_drawn", "reward_calls", "seconds")


def summarize_records(records: Sequence[Record]) -> dict[str, float]:
    """Summarizes all records, and those of each seed as ``seed_0/...``.

    ``num_items``, ``num_failed`` and ``num_ungradable``; ``mean_score``, to which what is
    ungradable or failed adds 0, and ``mean_reward`` over answers with a reward, left out where
    nothing was graded or has a reward; ``mean_policy_tokens_drawn``,
    ``mean_reward_calls`` and ``mean_seconds`` over items that did not fail.

    Args:
        records: one for each item and seed.
    """
    found = _figures(records)
    for seed in sorted({record["seed"] for record in records}):
        of_seed = _figures([record for record in records if record["seed"] == seed])
        found |= {f"seed_{seed}/{name}": value for name, value in of_seed.items()}
    return found


def flatten_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Lists settings by their path, such as ``strategy.n``; values other than text as JSON.

    >>> flatten_config({"strategy": {"n": 4, "inner": {}}, "seeds": [0, 1], "output": "outputs"})
    {'strategy.n': '4', 'seeds': '[0, 1]', 'output': 'outputs'}
    """
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{path}": text for path, text in flatten_config(value).items()}
        else:
            found[str(name)] = value if isinstance(value, str) else json.dumps(value)
    return found


def _figures(records: Sequence[Record]) -> dict[str, float]:
    answered = [record for record in records if record["error"] is None]
    means: dict[str, list[float | None]] = {
        "score": [score(record) for record in records] if is_graded(records) else [],
        "reward": [record["answers"][0]["reward"] for record in answered if record["answers"]],
    } | {cost: [record["usage"][cost] for record in answered] for cost in _COSTS}
    found: dict[str, float] = {
        "num_items": len(records),
        "num_failed": len(records) - len(answered),
        "num_ungradable": sum(map(is_ungradable, records)),
    }
    for name, values in means.items():
        known = [value for value in values if value is not None]
        if known:
            found[f"mean_{name}"] = sum(known) / len(known)
    return found
