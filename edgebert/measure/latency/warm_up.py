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
"""Queries whose median is one look at the latency; the same ones each time."""
WINDOWS, WITHIN = 3, 0.02
"""So many medians in a row may differ by this share at most."""
MOST_QUERIES, MOST_SECONDS = 2000, 30.0
"""Of one session: a machine that never settles is measured all the same, and the round says so."""


@dataclass(frozen=True)
class WarmUp:
    """What happened."""

    queries: int
    """Served by all sessions."""
    stable: bool | None
    """Whether the latency of all sessions settled; None where nobody looked."""
    query_ns: float
    """Median time of one query on one session; 0 where there was none."""


def warm_up(sessions: Sequence[Session], queries: Sequence[Query], *, least: int, settle: bool) -> WarmUp:
    """Serves queries on one session after another.

    Args:
        queries: from which the first are taken, again and again where there are too few.
        least: of them, on each session. Without `settle` it is as many.
        settle: go on until the latency has settled, or until the bounds above.
    """
    done = [
        _settle(session, queries[:WINDOW], least) if settle else _serve_all(session, queries[:least]) for session in sessions
    ]
    times = [time for _, found in done for time in found]
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
        found = [_time(session, query) for query in window]
        medians.append(float(np.median(found)))
        times += found
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
