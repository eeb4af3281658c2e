"""Observes requests: metrics, spans and one line of log each. None has any text of a request."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rsalign.core.align import Result
from rsalign.core.budget import Usage
from rsalign.core.errors import ConfigError
from rsalign.core.types import Tokens
from rsalign.serve.telemetry import Metrics, RequestSpan, StrategyMetrics, Tracing

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Observer:
    """Observes the requests of a server.

    Attributes:
        metrics: None: nothing is counted.
        tracing: None: there are no spans.
    """

    metrics: Metrics | None = None
    tracing: Tracing | None = None
    _by_strategy: dict[str, StrategyMetrics] = field(default_factory=dict)

    def count_refusal(self, reason: str) -> None:
        """Counts a request that was refused: ``invalid``, ``busy`` or ``stopping``."""
        logger.info("refused: %s", reason)
        if self.metrics is not None:
            self.metrics.count_refusal(reason)

    @contextmanager
    def observe(
        self, strategy: str, request_id: str, trace_headers: Mapping[str, str]
    ) -> Iterator["Observation"]:
        """Observes one request while the block runs; an exception is its outcome."""
        metrics = None
        if self.metrics is not None:
            metrics = self._by_strategy.get(strategy) or self._by_strategy.setdefault(
                strategy, self.metrics.for_strategy(strategy)
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
    """The observation of one request.

    Attributes:
        trace_headers: for the engine requests that it causes.
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

    def count_segment(self, tokens: Tokens) -> None:
        """Counts a segment that has become a part of an answer."""
        if self._metrics is not None:
            self._metrics.histograms["segment_tokens"].observe(len(tokens))
            if not self._num_segments:
                seconds = time.perf_counter() - self._started
                self._metrics.histograms["time_to_first_segment_seconds"].observe(seconds)
        if self._span is not None:
            self._span.add_segment(len(tokens))
        self._num_segments += 1

    def count_answer(self, result: Result) -> None:
        """Counts a complete answer."""
        self._results.append(result)
        if self._metrics is not None:
            self._metrics.count_answer(result)

    def end(self, outcome: str, strategy: str, request_id: str) -> None:
        """Counts, closes and logs the request."""
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
            "abstained": sum(result.abstained for result in self._results),
        }
        for name, usage in sum(usages, Usage()).parts.items():
            facts |= {
                f"{name}.drawn": usage.policy_tokens_drawn,
                f"{name}.reward_calls": usage.reward_calls,
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


def log_to_stderr() -> None:
    """Shows rsalign's log on standard error, unless logging is set up; vLLM shows its own only."""
    logger = logging.getLogger("rsalign")
    if logger.level == logging.NOTSET:
        logger.setLevel(os.environ.get("RSALIGN_LOGGING_LEVEL", "INFO"))
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
