"""A session made slower by a known share, to prove that a comparison finds it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from edgebert.runtimes.base import Array, Session
from edgebert.runtimes.waiting import wait_until


class Slowed(Session):
    """Takes (1 + share) times as long as the session within it. Its answers are the same."""

    def __init__(self, session: Session, share: float) -> None:
        self._session = session
        self._share = share

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch, then waits in proportion to the time that it took."""
        started = time.perf_counter_ns()
        outputs = self._session.predict(batch)
        ended = time.perf_counter_ns()
        wait_until(ended + int((ended - started) * self._share))
        return outputs

    def prepare(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Prepares the session within it."""
        self._session.prepare(shapes)
