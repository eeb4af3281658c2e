"""Prometheus metrics ``rsalign:*``, which vLLM's own ``/metrics`` shows beside its own.

Labels: the strategy's name and the model's. What a run cost is counted when it ends; a run whose
client went away has an outcome, and what it drew is in the engine's own counters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rsalign.core.align import Result
from rsalign.core.trace import Verdict
from rsalign.serve.report import decided, num_forced

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_LABELS = ("strategy", "model_name")

_COUNTERS = {
    "proposals_accepted": "Proposals that a strategy accepted.",
    "proposals_rejected": "Proposals that a strategy rejected.",
    "proposals_forced": "Proposals taken although they were not accepted.",
    "policy_tokens_drawn": "Tokens drawn from the policy, discarded ones included.",
    "policy_tokens_kept": "Tokens of answers.",
    "reward_calls": "Calls of the reward.",
    "answers_expired": "Answers that a budget, or a reward that failed, ended early.",
}
_HISTOGRAMS = {
    "segment_tokens": ("Tokens of a segment that became a part of an answer.", _TOKENS),
    "time_to_first_segment_seconds": ("From a request to its first accepted segment.", _SECONDS),
    "request_seconds": ("From a request to its end.", _SECONDS),
}


class Metrics:
    """The metrics of one process; make one of these only.

    Args:
        model_name: that the server shows.
    """

    def __init__(self, model_name: str) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self._model_name = model_name
        self._counters = {
            name: Counter(f"rsalign:{name}", text, _LABELS) for name, text in _COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(f"rsalign:{name}", text, _LABELS, buckets=buckets)
            for name, (text, buckets) in _HISTOGRAMS.items()
        }
        self._requests = Counter(
            "rsalign:requests",
            "Requests that asked for a strategy: finished, failed, refused or cancelled.",
            (*_LABELS, "outcome"),
        )
        self._open = Gauge(
            "rsalign:requests_open",
            "Requests that strategies answer now.",
            _LABELS,
            multiprocess_mode="livesum",
        )

    def of(self, strategy: str) -> "StrategyMetrics":
        """Those of one strategy."""
        labels = (strategy, self._model_name)
        return StrategyMetrics(
            counters={name: metric.labels(*labels) for name, metric in self._counters.items()},
            histograms={name: metric.labels(*labels) for name, metric in self._histograms.items()},
            requests={
                outcome: self._requests.labels(*labels, outcome)
                for outcome in ("finished", "failed", "refused", "cancelled")
            },
            open=self._open.labels(*labels),
        )


@dataclass(frozen=True, slots=True)
class StrategyMetrics:
    """The metrics of one strategy, by their names without prefix."""

    counters: dict[str, Any]
    histograms: dict[str, Any]
    requests: dict[str, Any]
    open: Any

    def answered(self, result: Result) -> None:
        """Counts what one answer took."""
        for name, amount in _amounts(result):
            self.counters[name].inc(amount)


def _amounts(result: Result) -> Iterator[tuple[str, int]]:
    verdicts = [proposal.verdict for proposal in decided(result.trace)]
    yield "proposals_accepted", verdicts.count(Verdict.ACCEPTED)
    yield "proposals_rejected", verdicts.count(Verdict.REJECTED)
    yield "proposals_forced", num_forced(result.trace)
    yield "policy_tokens_drawn", result.usage.policy_tokens_drawn
    yield "policy_tokens_kept", result.usage.policy_tokens_kept
    yield "reward_calls", result.usage.reward_calls
    yield "answers_expired", int(result.expired)
