"""What operators see of requests: metrics, spans, and one line of log each, none with any text."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rsalign.core.align import Result
from rsalign.core.errors import ConfigError
from rsalign.core.types import Tokens
from rsalign.serve.metrics import Metrics, StrategyMetrics
from rsalign.serve.tracing import RequestSpan, Tracing

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Observer:
    """Watches requests.

    Attributes:
        metrics: counts; None: nobody does.
        tracing: makes spans; None: there are none.
    """

    metrics: Metrics | None = None
    tracing: Tracing | None = None
    _of: dict[str, StrategyMetrics] = field(default_factory=dict)

    @contextmanager
    def observed(
        self, strategy: str, request_id: str, trace_headers: Mapping[str, str]
    ) -> Iterator["Observation"]:
        """From a request's beginning to its end, however it ends."""
        metrics = None
        if self.metrics is not None:
            metrics = self._of.get(strategy) or self._of.setdefault(
                strategy, self.metrics.of(strategy)
            )
            metrics.open.inc()
        span = None
        if self.tracing is not None:
            span = self.tracing.start(strategy, request_id, trace_headers)
        observation = Observation(metrics, span, dict(trace_headers))
        outcome = "cancelled"
        try:
            yield observation
            outcome = "finished"
        except ConfigError:
            outcome = "refused"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            observation.end(outcome, strategy, request_id)


@dataclass(slots=True)
class Observation:
    """One request, watched.

    Attributes:
        trace_headers: for the requests to the engine that it causes.
    """

    _metrics: StrategyMetrics | None
    _span: RequestSpan | None
    trace_headers: Mapping[str, str]
    _started: float = field(default_factory=time.perf_counter)
    _num_segments: int = 0
    _results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self._span is not None:
            self.trace_headers = self._span.headers

    def committed(self, tokens: Tokens) -> None:
        """A segment has become a part of an answer."""
        if self._metrics is not None:
            self._metrics.histograms["segment_tokens"].observe(len(tokens))
            if not self._num_segments:
                seconds = time.perf_counter() - self._started
                self._metrics.histograms["time_to_first_segment_seconds"].observe(seconds)
        if self._span is not None:
            self._span.segment(len(tokens))
        self._num_segments += 1

    def answered(self, result: Result) -> None:
        """An answer is complete."""
        self._results.append(result)
        if self._metrics is not None:
            self._metrics.answered(result)

    def end(self, outcome: str, strategy: str, request_id: str) -> None:
        """The request is over."""
        seconds = time.perf_counter() - self._started
        if self._metrics is not None:
            self._metrics.open.dec()
            self._metrics.requests[outcome].inc()
            self._metrics.histograms["request_seconds"].observe(seconds)
        usages = [result.usage for result in self._results]
        facts: dict[str, Any] = {
            "outcome": outcome,
            "answers": len(self._results),
            "segments": self._num_segments,
            "drawn": sum(usage.policy_tokens_drawn for usage in usages),
            "kept": sum(usage.policy_tokens_kept for usage in usages),
            "reward_calls": sum(usage.reward_calls for usage in usages),
            "expired": any(result.expired for result in self._results),
        }
        if self._span is not None:
            self._span.end(facts)
        logger.info(
            "request=%r strategy=%s %s seconds=%.3f",
            request_id,
            strategy,
            " ".join(f"{name}={value}" for name, value in facts.items()),
            seconds,
        )
