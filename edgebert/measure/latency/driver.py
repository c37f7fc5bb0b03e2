"""Drivers, which send the queries: this package's scenarios or MLCommons' LoadGen; and what their loop costs a query."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager as ContextManager
from pathlib import Path

import numpy as np

from edgebert.measure.latency import loadgen, scenarios
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.query_maker import QueryMaker
from edgebert.measure.latency.scenarios import Query, Served, Text
from edgebert.report.rounds import Setting
from edgebert.runtimes.base import Array, Session

UNWATCHED = contextlib.nullcontext()
QUERIES, REPEATS = 256, 7
"""Queries of one run that times a driver's own loop, and runs whose median counts."""


class Idle(Session):
    """Answers nothing, at once."""

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns no outputs."""
        return {}


class Driver(ABC):
    """Sends the timed queries of a job."""

    @abstractmethod
    def shapes(self) -> set[tuple[int, int]]:
        """(batch, length) of every batch that it may send."""

    @abstractmethod
    def run(self, sessions: Sequence[Session], around: ContextManager[object] = UNWATCHED) -> Served:
        """Sends all queries.

        Args:
            around: is entered just before the first one and left just after the last one's answer.
        """

    @abstractmethod
    def overhead_ns(self) -> float:
        """Nanoseconds that the driver itself costs for each query."""


class Own(Driver):
    """The scenarios of this package."""

    def __init__(self, setting: Setting, queries: Sequence[Query], seed: Sequence[int]) -> None:
        self._setting, self._queries = setting, queries
        rate = setting.rate if setting.scenario == "server" else None
        self.arrivals_ns = scenarios.poisson_arrivals(len(queries), rate, seed) if rate else [0] * len(queries)
        """Arrival of each query from the start, in nanoseconds; 0 outside the server scenario."""

    def shapes(self) -> set[tuple[int, int]]:
        """Shapes of its queries."""
        return shapes_of(self._queries)

    def run(self, sessions: Sequence[Session], around: ContextManager[object] = UNWATCHED) -> Served:
        """Sends the queries as the setting says."""
        with around:
            return self._send(sessions, self._queries, self.arrivals_ns)

    def overhead_ns(self) -> float:
        """Median time of the same loop for each query of sessions that do nothing, without waits for arrivals."""
        sessions, queries = [Idle() for _ in range(self._setting.instances)], [self._queries[0]] * QUERIES
        return float(np.median([self._send(sessions, queries, [0] * QUERIES).wall_ns / QUERIES for _ in range(REPEATS)]))

    def _send(self, sessions: Sequence[Session], queries: Sequence[Query], arrivals: Sequence[int]) -> Served:
        match self._setting.scenario:
            case "single-stream":
                return scenarios.single_stream(sessions, queries)
            case "multi-stream":
                return scenarios.multi_stream(sessions, queries)
            case "offline":
                return scenarios.offline(sessions, queries)
            case "server":
                return scenarios.server(sessions, queries, arrivals)


class LoadGen(Driver):
    """MLCommons' LoadGen sends the queries."""

    def __init__(self, job: RoundJob, maker: QueryMaker, queries: Sequence[Query], texts: Sequence[Text]) -> None:
        loadgen.require()
        self._setting, self._seed, self._batch = job.setting, job.seed + job.round, job.target.batch
        self._maker, self._texts = maker, texts
        self._folder = Path(job.rows).parent  # whoever removes the rows removes what a killed process leaves
        whole = len(texts) // job.setting.streams * job.setting.streams
        together = job.setting.scenario == "multi-stream"
        self._samples = [maker.query([text]) for text in texts[:whole]] if together else list(queries)

    def shapes(self) -> set[tuple[int, int]]:
        """In multi-stream LoadGen chooses which texts meet: batches of any of their lengths, full or the rest of a query."""
        if self._setting.scenario != "multi-stream":
            return shapes_of(self._samples)
        sizes = {min(self._batch, self._setting.streams), self._setting.streams % self._batch} - {0}
        return {(size, query.length) for query in self._samples for size in sizes}

    def run(self, sessions: Sequence[Session], around: ContextManager[object] = UNWATCHED) -> Served:
        """Has LoadGen send the queries."""
        return loadgen.drive(
            sessions, self._samples, self._setting, seed=self._seed, collate=self._together, folder=self._folder, around=around
        )

    def overhead_ns(self) -> float:
        """Latency that LoadGen measures in single-stream for a session that does nothing: its own and its Python binding's."""
        served = loadgen.drive([Idle()], [self._samples[0]] * QUERIES, Setting(), folder=self._folder)
        return float(np.median(served.latencies_ns))

    def _together(self, indices: Sequence[int]) -> Query:
        return self._maker.query([self._texts[index] for index in indices])


def shapes_of(queries: Sequence[Query]) -> set[tuple[int, int]]:
    """(batch, length) of every batch."""
    return {(batch["input_ids"].shape[0], batch["input_ids"].shape[1]) for query in queries for batch in query.batches}


def open_driver(job: RoundJob, maker: QueryMaker, queries: Sequence[Query], texts: Sequence[Text]) -> Driver:
    """The driver that the job's setting names.

    Args:
        queries: the timed queries.
        texts: the texts that they were made of, in the same order.

    Raises:
        MissingPackage: LoadGen is not installed.
    """
    if job.setting.driver == "mlcommons-loadgen":
        return LoadGen(job, maker, queries, texts)
    return Own(job.setting, queries, (job.seed, job.round))
