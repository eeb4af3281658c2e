"""Metrics and spans of requests. Neither has any text of prompts or answers.

Prometheus metrics ``rsalign:*`` are shown by vLLM's own ``/metrics``, labelled by the names of the
strategy and the model. The cost of an answer is counted when the answer is complete; if a client
goes away before, its request has an outcome, and its tokens are in the engine's own counters.

OpenTelemetry spans: one for a request, and below it one for each segment of its answers. They go
where vLLM's go (``--otlp-traces-endpoint``); the spans of the engine requests that a strategy
causes are below the request's.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rsalign.core.align import Result
from rsalign.core.trace import Verdict
from rsalign.serve.admission import Admission
from rsalign.serve.draw_window import DrawWindow
from rsalign.serve.responses import count_forced, decided_proposals

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
    "answers_abstained": "Requests for an answer for which a strategy gave none.",
}
_PART_COUNTERS = {
    "part_policy_tokens_drawn": "Tokens drawn from a named part of runs, such as a draft model.",
    "part_reward_calls": "Calls of a named part of runs, such as a judge.",
}
_GAUGES = {
    "admission_limit": "Greatest number of draws that the requests under way can have open.",
    "draws_admitted": "Draws that the requests under way can have open.",
    "requests_waiting": "Requests that wait for room.",
    "draws_limit": "Greatest number of draws of strategies that are open in the engine.",
    "draws_open": "Draws of strategies that are open in the engine.",
    "draws_waiting": "Draws of strategies that wait for a place in the engine.",
}
_HISTOGRAMS = {
    "segment_tokens": ("Tokens of a segment that became a part of an answer.", _TOKENS),
    "time_to_first_segment_seconds": ("From a request to its first accepted segment.", _SECONDS),
    "request_seconds": ("From a request to its end.", _SECONDS),
}


class Metrics:
    """The metrics of one process; Prometheus allows one instance only.

    Args:
        model_name: the name that the server shows.
    """

    def __init__(self, model_name: str) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self._model_name = model_name
        self._counters = {
            name: Counter(f"rsalign:{name}", text, _LABELS) for name, text in _COUNTERS.items()
        }
        self._part_counters = {
            name: Counter(f"rsalign:{name}", text, (*_LABELS, "part"))
            for name, text in _PART_COUNTERS.items()
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
        self._refused = Counter(
            "rsalign:requests_refused",
            "Requests that were refused: invalid, busy (no room) or stopping (shutting down).",
            ("model_name", "reason"),
        )
        self._gauges = {
            name: Gauge(f"rsalign:{name}", text, ("model_name",), multiprocess_mode="livesum")
            for name, text in _GAUGES.items()
        }
        self._open = Gauge(
            "rsalign:requests_open",
            "Requests that strategies answer now.",
            _LABELS,
            multiprocess_mode="livesum",
        )

    def count_refusal(self, reason: str) -> None:
        """Counts a refused request."""
        self._refused.labels(self._model_name, reason).inc()

    def watch(self, admission: Admission, window: DrawWindow) -> None:
        """Shows what requests and draws there is room for, and how much of it is taken."""
        gauges = {name: gauge.labels(self._model_name) for name, gauge in self._gauges.items()}
        gauges["admission_limit"].set(math.inf if (most := admission.max_open) is None else most)
        gauges["draws_limit"].set(math.inf if window.size is None else window.size)

        def update() -> None:
            gauges["draws_admitted"].set(admission.num_open)
            gauges["requests_waiting"].set(admission.num_waiting)
            gauges["draws_open"].set(window.num_open)
            gauges["draws_waiting"].set(window.num_waiting)

        admission.on_change = window.on_change = update
        update()

    def for_strategy(self, strategy: str) -> "StrategyMetrics":
        """The metrics of one strategy."""
        labels = (strategy, self._model_name)
        return StrategyMetrics(
            counters={name: metric.labels(*labels) for name, metric in self._counters.items()},
            histograms={name: metric.labels(*labels) for name, metric in self._histograms.items()},
            requests={
                outcome: self._requests.labels(*labels, outcome)
                for outcome in ("finished", "failed", "refused", "cancelled")
            },
            open=self._open.labels(*labels),
            of_part={
                name: partial(metric.labels, *labels)
                for name, metric in self._part_counters.items()
            },
        )


@dataclass(frozen=True, slots=True)
class StrategyMetrics:
    """The metrics of one strategy, by their names without the prefix."""

    counters: dict[str, Any]
    histograms: dict[str, Any]
    requests: dict[str, Any]
    open: Any
    of_part: dict[str, Any]

    def count_answer(self, result: Result) -> None:
        """Counts the cost of one answer."""
        for name, amount in _amounts(result):
            self.counters[name].inc(amount)
        for part, usage in result.usage.parts.items():
            self.of_part["part_policy_tokens_drawn"](part).inc(usage.policy_tokens_drawn)
            self.of_part["part_reward_calls"](part).inc(usage.reward_calls)


def _amounts(result: Result) -> Iterator[tuple[str, int]]:
    verdicts = [proposal.verdict for proposal in decided_proposals(result.trace)]
    yield "proposals_accepted", verdicts.count(Verdict.ACCEPTED)
    yield "proposals_rejected", verdicts.count(Verdict.REJECTED)
    yield "proposals_forced", count_forced(result.trace)
    yield "policy_tokens_drawn", result.usage.policy_tokens_drawn
    yield "policy_tokens_kept", result.usage.policy_tokens_kept
    yield "reward_calls", result.usage.reward_calls
    yield "answers_expired", int(result.expired)
    yield "answers_abstained", int(result.abstained)


class Tracing:
    """Makes spans with the tracer that vLLM has set up.

    Raises:
        ImportError: if OpenTelemetry is not installed, without which vLLM makes no traces either.
    """

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = trace.get_tracer("rsalign")
        self._in_context = trace.set_span_in_context
        self._propagator = TraceContextTextMapPropagator()

    def start(self, strategy: str, request_id: str, headers: Mapping[str, str]) -> "RequestSpan":
        """Opens the span of a request, below its client's span if `headers` name one."""
        context = self._propagator.extract(dict(headers))
        span = self._tracer.start_span(
            "rsalign.request",
            context=context,
            attributes={"rsalign.strategy": strategy, "gen_ai.request.id": request_id},
        )
        below = self._in_context(span)
        inside: dict[str, str] = {}
        self._propagator.inject(inside, context=below)
        return RequestSpan(self._tracer, span, below, inside, time.time_ns())


@dataclass(slots=True)
class RequestSpan:
    """The open span of a request.

    Attributes:
        headers: trace headers that put engine requests below this span.
    """

    _tracer: Any
    _span: Any
    _context: Any
    headers: dict[str, str]
    _since_ns: int
    _num_segments: int = 0

    def add_segment(self, num_tokens: int) -> None:
        """Adds the span of a segment that has become certain, from the end of the one before."""
        now = time.time_ns()
        span = self._tracer.start_span(
            "rsalign.segment",
            context=self._context,
            start_time=self._since_ns,
            attributes={
                "rsalign.segment.index": self._num_segments,
                "rsalign.segment.tokens": num_tokens,
            },
        )
        span.end(now)
        self._since_ns = now
        self._num_segments += 1

    def end(self, attributes: Mapping[str, Any]) -> None:
        """Closes the span with these attributes; those that are None are left out."""
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(f"rsalign.{name}", value)
        self._span.end()
