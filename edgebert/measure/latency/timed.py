"""The measurements of a process once its model has answered: warm-up, timed queries, memory and energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgebert.bundle.signed_graph import held_files
from edgebert.errors import StageError
from edgebert.measure.latency.driver import Driver, open_driver, shapes_of
from edgebert.measure.latency.first_answer import OpenedModel, open_session
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.query_maker import QueryMaker, by_length, read_rows
from edgebert.measure.latency.scenarios import Query, Served
from edgebert.measure.latency.warm_up import MOST_SECONDS, WarmUp, warm_up
from edgebert.measure.machine.energy import EnergyMeter, open_meter
from edgebert.measure.machine.memory import forget_peak, peak_rss, pss
from edgebert.measure.machine.reference_workload import time_reference_workload, undisturbed
from edgebert.report.rounds import Round
from edgebert.runtimes.base import Session

UNTIMED, UNTIMED_NS = 0.05, 1_000_000
"""Share of the timed stretch, and nanoseconds on top of it, by which the energy counter may run longer."""


def measure(job: RoundJob, opened: OpenedModel, expect: Callable[[float], None], meter: EnergyMeter | None = None) -> Round:
    """The measurements of one round, without the cores that it was pinned to and its instruction set.

    Args:
        expect: called before long work with the seconds that it may take.
        meter: counts energy; by default this machine's.

    Raises:
        EdgebertError: a session cannot be opened, or there is nothing to time.
    """
    maker = opened.maker
    first, timed, driver, tokenise_ns = _asked(job, maker)
    shapes = driver.shapes() | shapes_of(first) | shapes_of(timed)
    expect(MOST_SECONDS * job.setting.instances + opened.load_ns / 1e9 * job.setting.instances * (1 + len(shapes)))
    sessions, prepare_ns = _open_all(job, opened.session, sorted(shapes))
    peak, reference_workload_ns = _reference_workload_apart()
    warmed = warm_up(sessions, first or timed, least=job.warmup, settle=job.settle)
    expect(_seconds(job, opened, warmed, len(timed)))
    served, energy_uj = _serve(driver, sessions, meter or open_meter())
    peak_rss_bytes, pss_bytes = max(peak, peak_rss() or 0) or None, pss()
    reference_workload_ns += time_reference_workload()
    with undisturbed():
        end_to_end_ns = _end_to_end(sessions[0], maker, timed) if job.end_to_end else []
        overhead_ns = driver.overhead_ns() + served.late_ns
    return Round(
        round=job.round,
        process=job.process,
        latencies_ns=served.latencies_ns,
        tokenise_ns=tokenise_ns,
        lengths=served.lengths,
        end_to_end_ns=end_to_end_ns,
        load_ns=opened.load_ns + prepare_ns,
        cold_start_ns=opened.cold_start_ns,
        peak_rss_bytes=peak_rss_bytes,
        pss_bytes=pss_bytes,
        wall_ns=served.wall_ns,
        examples=served.examples,
        warmup=warmed.queries,
        stable=warmed.stable,
        overhead_ns=overhead_ns,
        reference_workload_ns=reference_workload_ns,
        energy_uj=energy_uj,
    )


def _asked(job: RoundJob, maker: QueryMaker) -> tuple[list[Query], list[Query], Driver, list[int]]:
    """Queries of the warm-up, timed queries, the driver that sends these, and the nanoseconds of their tokenisation."""
    each = job.texts_per_query
    rows = read_rows(Path(job.rows))
    if job.setting.scenario == "offline":
        rows = _longest_first(maker, rows, job.warmup * each)
    with undisturbed():
        texts, tokenise_ns = maker.texts(rows, each)
    first, rest = texts[: job.warmup * each], texts[job.warmup * each :]
    if not rest:
        raise StageError(f"There is nothing to time: {len(texts)} texts are used up by {job.warmup} queries of warm-up.")
    timed = maker.queries(rest, each)
    return maker.queries(first, each), timed, open_driver(job, maker, timed, rest), tokenise_ns[job.warmup :]


def _longest_first(maker: QueryMaker, rows: Sequence[Any], after: int) -> list[Any]:
    """The rows, with those after the warm-up in the order in which offline serves them."""
    timed = rows[after:]
    return [*rows[:after], *(row for row, _ in by_length(list(zip(timed, maker.encode(timed), strict=True))))]


def _open_all(job: RoundJob, session: Session, shapes: Sequence[tuple[int, int]]) -> tuple[list[Session], int]:
    """All sessions, prepared for the shapes, and the nanoseconds of preparing the first one."""
    before = time.perf_counter_ns()
    session.prepare(shapes)
    prepare_ns = time.perf_counter_ns() - before
    count = job.setting.instances - 1
    with held_files(job.signed if count else None) as held:
        others = [open_session(job, held) for _ in range(count)]
    for other in others:
        other.prepare(shapes)
    return [session, *others], prepare_ns


def _reference_workload_apart() -> tuple[int, list[int]]:
    """Peak memory in bytes before the reference workload, whose own memory does not count, and the workload's times."""
    peak = peak_rss() or 0
    reference_workload_ns = time_reference_workload()
    forget_peak()
    return peak, reference_workload_ns


def _serve(driver: Driver, sessions: Sequence[Session], meter: EnergyMeter) -> tuple[Served, int | None]:
    """The timed queries and their energy in microjoules; None where the counter ran longer, as LoadGen's start and end take."""
    watch = meter.watch()
    with undisturbed():
        served = driver.run(sessions, watch)
    longer_ns = watch.wall_ns - served.wall_ns
    return served, watch.microjoules if longer_ns <= UNTIMED * served.wall_ns + UNTIMED_NS else None


def _seconds(job: RoundJob, opened: OpenedModel, warmed: WarmUp, queries: int) -> float:
    """Seconds that the timed queries may take: each is served twice, and the last one has to arrive."""
    each = (warmed.query_ns or opened.load_ns) / 1e9
    return 2 * queries * each + (queries / job.setting.rate if job.setting.rate else 0.0)


def _end_to_end(session: Session, maker: QueryMaker, queries: Sequence[Query]) -> list[int]:
    """Nanoseconds from each query's text to its answers, one query after the other."""
    clock = time.perf_counter_ns
    latencies = [0] * len(queries)
    for index, query in enumerate(queries):
        rows = [row for row, _ in query.texts]
        before = clock()
        asked = maker.query_of(rows)
        maker.answer([session.predict(batch) for batch in asked.batches], asked)
        latencies[index] = clock() - before
    return latencies
