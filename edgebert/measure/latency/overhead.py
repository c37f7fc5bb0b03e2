"""Overhead: what a scenario's own loop costs for each query, found by running it with sessions that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgebert.measure.latency.scenarios import Query, Served
from edgebert.runtimes.base import Array, Session

QUERIES, REPEATS = 256, 7


class Idle(Session):
    """Answers nothing, at once."""

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns no outputs."""
        return {}


def loop_overhead(run: Callable[[Sequence[Session], Sequence[Query]], Served], query: Query, instances: int) -> float:
    """Nanoseconds for each query, all that the loop does included: median over a few runs.

    Args:
        run: the scenario; what it waits for (arrivals) has to be left out.
        query: one as they are sent.
        instances: sessions that it serves with.
    """
    sessions = [Idle() for _ in range(instances)]
    return float(np.median([run(sessions, [query] * QUERIES).wall_ns / QUERIES for _ in range(REPEATS)]))
