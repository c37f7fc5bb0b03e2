"""Warm-up: serving a few queries over and over until their latency has settled.

The first queries of a process pay for memory that is not mapped, caches that are cold and clocks that still rise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebert.measure.latency.scenarios import Query
from edgebert.runtimes.base import Session

WINDOW = 16
"""Queries whose median is one reading of the latency; the same queries each time."""
WINDOWS, WITHIN = 3, 0.02
"""Number of medians in a row, and the share by which they may differ, for a latency that has settled."""
MOST_QUERIES, MOST_SECONDS = 2000, 30.0
"""Limits for one session: a machine that never settles is measured all the same, and the round says so."""


@dataclass(frozen=True)
class WarmUp:
    """The outcome of a warm-up."""

    queries: int
    """Number of queries served by all sessions together."""
    stable: bool | None
    """Whether the latency of all sessions settled; None where it was not checked."""
    query_ns: float
    """Median nanoseconds of one query on one session; 0 without queries."""


def warm_up(sessions: Sequence[Session], queries: Sequence[Query], *, least: int, settle: bool) -> WarmUp:
    """Serves queries on one session after another.

    Args:
        queries: the first of them are served, again and again where there are too few.
        least: fewest queries on each session; without `settle` exactly that many.
        settle: go on until the latency has settled, or until the limits above.
    """
    done = [
        _settle(session, queries[:WINDOW], least) if settle else _serve_all(session, queries[:least]) for session in sessions
    ]
    times = [time for _, served in done for time in served]
    stable = all(settled for settled, _ in done) if settle else None
    return WarmUp(len(times), stable, float(np.median(times)) if times else 0.0)


def _serve_all(session: Session, queries: Sequence[Query]) -> tuple[bool, list[int]]:
    return False, [_time(session, query) for query in queries]


def _settle(session: Session, window: Sequence[Query], least: int) -> tuple[bool, list[int]]:
    times: list[int] = []
    medians: list[float] = []
    ends = time.monotonic() + MOST_SECONDS
    while len(times) < least or not is_settled(medians):
        if len(times) >= least and (len(times) >= MOST_QUERIES or time.monotonic() > ends):
            return False, times
        latest = [_time(session, query) for query in window]
        medians.append(float(np.median(latest)))
        times += latest
    return True, times


def is_settled(medians: Sequence[float]) -> bool:
    """Whether the last medians lie close together."""
    last = medians[-WINDOWS:]
    return len(last) == WINDOWS and max(last) <= (1 + WITHIN) * min(last)


def _time(session: Session, query: Query) -> int:
    before = time.perf_counter_ns()
    for batch in query.batches:
        session.predict(batch)
    return time.perf_counter_ns() - before
