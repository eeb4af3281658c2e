"""How far a sweep is: jobs done of all, answers of the present job, and about how long it lasts.

The jobs of a sweep may run in other processes, so that what has ended is noted in a file of the
output folder, a line for each job.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.records import Record

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_WORDS = 60.0
"""Where no terminal shows a progress bar, a line says as often how many answers there are."""

_FILE = "progress.log"
_JOBS = "RSALIGN_SWEEP_JOBS"
_OFFSET = "RSALIGN_SWEEP_PROGRESS"


@dataclass(frozen=True, slots=True)
class Progress:
    """Jobs of a sweep that have ended since it was started.

    Attributes:
        num_jobs: of the sweep; None if a sweeper chooses them as it goes.
        num_done: that have ended.
        fresh: seconds of each that had something to answer.
        elapsed: seconds between the first job's start and the last one's end.
    """

    num_jobs: int | None
    num_done: int
    fresh: tuple[float, ...]
    elapsed: float

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the jobs so far; None if nothing can be said.

        Jobs that run beside each other are taken for as many as there are seconds of jobs in a
        second of the clock.
        """
        if self.num_jobs is None or not self.fresh or self.elapsed <= 0:
            return None
        beside = max(1.0, sum(self.fresh) / self.elapsed)
        each = sum(self.fresh) / len(self.fresh)
        return max(0, self.num_jobs - self.num_done) * each / beside

    def describe(self) -> str:
        """Such as ``3 of 40 jobs are done, about 1 h 20 min left``.

        >>> Progress(40, 3, (120.0, 130.0), 250.0).describe()
        '3 of 40 jobs are done, about 1 h 18 min left'
        >>> Progress(None, 1, (2.0,), 2.0).describe()
        '1 job is done'
        """
        of = "" if self.num_jobs is None else f" of {self.num_jobs}"
        one = self.num_done == 1 and not of
        told = f"{self.num_done}{of} {'job is' if one else 'jobs are'} done"
        left = self.seconds_left
        return told if not left else f"{told}, about {describe_seconds(left)} left"


def describe_seconds(seconds: float) -> str:
    """In two units at most.

    >>> describe_seconds(4.2), describe_seconds(61), describe_seconds(7300)
    ('5 s', '2 min', '2 h 2 min')
    """
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def start_sweep(output: Path, num_jobs: int | None) -> None:
    """Tells this process and those it starts how many jobs there are."""
    file = output / _FILE
    file.touch()
    os.environ[_OFFSET] = str(file.stat().st_size)
    os.environ[_JOBS] = "" if num_jobs is None else str(num_jobs)


def end_job(output: Path, started: float, *, had_answers_to_draw: bool) -> Progress | None:
    """Notes that a job has ended.

    Args:
        output: of the sweep.
        started: `time.time` when the job began.
        had_answers_to_draw: whether it was not complete already.

    Returns:
        How far the sweep is; None if there is no sweep, but one job.
    """
    if os.environ.get(_JOBS) in (None, "1"):
        return None
    file = output / _FILE
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{started:.3f} {time.time():.3f} {int(had_answers_to_draw)}\n")
    with file.open(encoding="utf-8") as opened:
        opened.seek(int(os.environ.get(_OFFSET, "0")))
        ended = [tuple(map(float, line.split())) for line in opened]
    fresh = [(start, end) for start, end, was_fresh in ended if was_fresh]
    jobs = os.environ[_JOBS]
    return Progress(
        num_jobs=int(jobs) if jobs else None,
        num_done=len(ended),
        fresh=tuple(end - start for start, end in fresh),
        elapsed=max(end for _, end in fresh) - min(start for start, _ in fresh) if fresh else 0.0,
    )


def count_aloud(keep: Callable[[Record], None], total: int) -> Callable[[Record], None]:
    """Logs now and then how many of the answers of a job are there.

    Where standard error is a terminal, the aligner's progress bar shows it instead.

    Args:
        keep: takes each record.
        total: how many there will be.
    """
    if sys.stderr.isatty():
        return keep
    count, began = 0, time.monotonic()
    said = began

    def counted(record: Record) -> None:
        nonlocal count, said
        keep(record)
        count += 1
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_WORDS and count < total:
            said = now
            left = describe_seconds((now - began) / count * (total - count))
            logger.info("%d of %d answers, about %s left for this job", count, total, left)

    return counted
