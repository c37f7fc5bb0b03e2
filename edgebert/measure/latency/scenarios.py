"""The four scenarios: when queries are sent to opened sessions, and from when their latency counts.

In the sense of MLPerf Inference (Reddi et al., 2020, arXiv:1911.02549, section IV). No files are read or written here. Several
sessions are served by a thread each; the caller switches Python's collector off (`reference_workload.undisturbed`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgebert.runtimes.base import Session
from edgebert.tasks.base import Batch, Encoded

Text = tuple[Any, tuple[Encoded, ...]]
"""A row of text or a list of token ids, and its windows: one, unless it is too long and its task reads all of it."""
LONGEST_S = 1e6
"""Most seconds until the last arrival: more would overflow a sleep."""


@dataclass(frozen=True)
class Query:
    """The batches that are sent at once: one, or several in multi-stream and for long texts. All are collated before anything
    is timed."""

    batches: tuple[Batch, ...]
    texts: tuple[Text, ...] = ()
    """The texts that the batches were made of."""

    @property
    def length(self) -> int:
        """Tokens of its longest text, padding included."""
        return max(int(batch["input_ids"].shape[1]) for batch in self.batches)

    @property
    def examples(self) -> int:
        """Number of texts."""
        return len(self.texts) or sum(len(batch["input_ids"]) for batch in self.batches)


@dataclass(frozen=True)
class Served:
    """The measurements of a scenario: one latency and one length in tokens for each query, in order."""

    latencies_ns: Sequence[int]
    lengths: Sequence[int]
    wall_ns: int
    """Nanoseconds from the first query's start to the last one's end."""
    examples: int
    """Number of texts."""
    late_ns: float = 0.0
    """server: median nanoseconds from a query's arrival, or from when a session was free for it, until it was sent."""


def single_stream(sessions: Sequence[Session], queries: Sequence[Query]) -> Served:
    """The next query starts when the last one ended. The first session serves."""
    latencies = [0] * len(queries)
    predict, clock = sessions[0].predict, time.perf_counter_ns
    started = clock()
    for index, query in enumerate(queries):
        batches = query.batches
        before = clock()
        for batch in batches:
            predict(batch)
        latencies[index] = clock() - before
    wall = clock() - started
    return _served(queries, latencies, wall)


def multi_stream(sessions: Sequence[Session], queries: Sequence[Query]) -> Served:
    """A query's batches are shared out among the sessions; the next query starts when the last batch ended."""
    if len(sessions) == 1:
        return _one_by_one(sessions[0], queries)
    latencies = [0] * len(queries)
    clock = time.perf_counter_ns
    with crew(sessions) as serve:
        started = clock()
        for index, query in enumerate(queries):
            before = clock()
            serve(query.batches)
            latencies[index] = clock() - before
        wall = clock() - started
    return _served(queries, latencies, wall)


def offline(sessions: Sequence[Session], queries: Sequence[Query]) -> Served:
    """All queries are available at once; each session takes the next one when it is free. A latency is that of one batch."""
    latencies = [0] * len(queries)
    clock = time.perf_counter_ns

    def serve(session: Session, index: int) -> None:
        batches = queries[index].batches
        before = clock()
        for batch in batches:
            session.predict(batch)
        latencies[index] = clock() - before

    started = clock()
    share_out(sessions, len(queries), serve)
    wall = clock() - started
    return _served(queries, latencies, wall)


def server(sessions: Sequence[Session], queries: Sequence[Query], arrivals_ns: Sequence[int]) -> Served:
    """Queries arrive at given times and wait, first come first served, for a session that is free.

    A latency counts from the scheduled arrival, so that a query which could not be sent in time counts its wait, too
    (otherwise the load would adapt to the slow: Tene's "coordinated omission"). A free session takes the next query and
    waits for its arrival: the same order and times as a queue gives, without a thread that hands queries over.

    Args:
        arrivals_ns: arrival of each query in nanoseconds from the start, ascending.
    """
    latencies, late = [0] * len(queries), [0] * len(queries)
    clock = time.perf_counter_ns
    started = 0

    def serve(session: Session, index: int) -> None:
        batches = queries[index].batches
        arrival = started + arrivals_ns[index]
        due = max(clock(), arrival)
        wait_until(arrival)
        late[index] = clock() - due
        for batch in batches:
            session.predict(batch)
        latencies[index] = clock() - arrival

    started = clock()
    share_out(sessions, len(queries), serve)
    wall = clock() - started
    return replace(_served(queries, latencies, wall), late_ns=float(np.median(late)))


def poisson_arrivals(count: int, rate: float, seed: Sequence[int]) -> list[int]:
    """Times in nanoseconds from 0 at which independent queries arrive: a Poisson process.

    Args:
        rate: arrivals a second, on average.
        seed: the same numbers give the same arrivals.
    """
    gaps = np.random.default_rng(list(seed)).exponential(1 / rate, count)
    return [int(moment) for moment in np.minimum(np.cumsum(gaps), LONGEST_S) * 1e9]


def _one_by_one(session: Session, queries: Sequence[Query]) -> Served:
    latencies = [0] * len(queries)
    predict, clock = session.predict, time.perf_counter_ns
    started = clock()
    for index, query in enumerate(queries):
        before = clock()
        for batch in query.batches:
            predict(batch)
        latencies[index] = clock() - before
    wall = clock() - started
    return _served(queries, latencies, wall)


def _served(queries: Sequence[Query], latencies: Sequence[int], wall: int) -> Served:
    return Served(latencies, [query.length for query in queries], wall, sum(query.examples for query in queries))


def share_out(sessions: Sequence[Session], count: int, serve: Callable[[Session, int], None]) -> None:
    """Every session that is free takes the next index, up to `count`. The first failure ends all, and is raised."""
    indices = itertools.count()  # its next() is atomic
    failures: list[BaseException] = []

    def work(session: Session) -> None:
        try:
            while (index := next(indices)) < count and not failures:
                serve(session, index)
        except BaseException as failure:  # raised again in the thread that waits
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(session,), daemon=True) for session in sessions[1:]]
    for thread in threads:
        thread.start()
    work(sessions[0])
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def crew(sessions: Sequence[Session]) -> Iterator[Callable[[Sequence[Batch]], None]]:
    """A function that has batches served by a waiting thread for each session, and returns after the last batch.

    The function raises the failure of any of them.
    """
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def serve(session: Session, batch: Batch) -> None:
        try:
            session.predict(batch)
            done.put(None)
        except BaseException as failure:  # raised again in the thread that waits
            done.put(failure)

    def serve_all(batches: Sequence[Batch]) -> None:
        for batch in batches:
            put(batch)
        for failure in [done.get() for _ in batches]:
            if failure is not None:
                raise failure

    with queued(sessions, serve) as put:
        yield serve_all


@contextlib.contextmanager
def queued(sessions: Sequence[Session], serve: Callable[[Session, Any], None]) -> Iterator[Callable[[Any], None]]:
    """A function that queues an item for the next session that is free; each session has a thread."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work(session: Session) -> None:
        while (item := waiting.get()) is not None:
            serve(session, item)

    threads = [threading.Thread(target=work, args=(session,), daemon=True) for session in sessions]
    for thread in threads:
        thread.start()
    try:
        yield waiting.put
    finally:
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()


AWAKE_NS = 200_000
"""Last nanoseconds of a wait, spent awake: the kernel wakes a sleeper 50 us late by default (PR_SET_TIMERSLACK in prctl(2)),
later on a busy core."""


def wait_until(moment_ns: int) -> None:
    """Returns at a moment of time.perf_counter_ns; immediately where it has passed."""
    clock = time.perf_counter_ns
    left = moment_ns - clock()
    if left > AWAKE_NS:
        time.sleep((left - AWAKE_NS) / 1e9)
    while clock() < moment_ns:
        # Releases Python's lock: a loop that keeps it would delay threads whose answers are ready.
        if os.name == "posix":
            select.select((), (), (), 0)  # sleep(0) takes the 50 us of slack as well
        else:
            time.sleep(0)
