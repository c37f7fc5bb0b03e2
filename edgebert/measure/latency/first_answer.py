"""The first answer of a fresh process: what a service does when it starts, and nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgebert.bundle.signed_graph import held_files
from edgebert.errors import StageError
from edgebert.measure.latency.query_maker import QueryMaker, read_rows
from edgebert.measure.latency.scenarios import wait_until
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Array, Held, Session

if TYPE_CHECKING:
    from edgebert.measure.latency.job import RoundJob


@dataclass(frozen=True)
class OpenedModel:
    """A model that has answered once."""

    session: Session
    maker: QueryMaker
    load_ns: int
    """Nanoseconds of opening the model and of its first query."""
    cold_start_ns: int | None
    """Nanoseconds from the start of the process; None where its clock cannot be compared with its parent's."""


def answer_first(job: RoundJob) -> OpenedModel:
    """Opens the tokenizer and the model and answers the first query.

    Raises:
        EdgebertError: either cannot be opened, or the answer is not a number.
    """
    maker = QueryMaker(job)
    query = maker.query_of(read_rows(Path(job.rows), job.texts_per_query))
    with held_files(job.signed) as held:
        before = time.perf_counter_ns()
        session = open_session(job, held)
        outputs = [session.predict(batch) for batch in query.batches]
        load_ns = time.perf_counter_ns() - before
    maker.answer(outputs, query)
    cold_start_ns = _since(job.started_ns)
    _check_finite(outputs[0], job.model)
    return OpenedModel(session, maker, load_ns, cold_start_ns)


def open_session(job: RoundJob, held: Held | None) -> Session:
    """One session of the job's model, slowed as the job says.

    Args:
        held: the copies of a signed graph.
    """
    session = get_runtime(job.target.runtime).open(Path(job.model), job.target, held)
    return Slowed(session, job.slowdown) if job.slowdown else session


def _since(started_ns: int | None) -> int | None:
    """Nanoseconds since then. Linux has one CLOCK_MONOTONIC for all processes (clock_gettime(2)); others may not."""
    return time.monotonic_ns() - started_ns if started_ns is not None and sys.platform == "linux" else None


def _check_finite(outputs: Mapping[str, Array], model: str) -> None:
    """Raises StageError for NaN and infinity: the latency of a broken model says nothing."""
    for name, values in outputs.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise StageError(f"{model} answers NaN or infinity to the first query, in its output {name}.")


class Slowed(Session):
    """A session that takes (1 + share) times as long as the one within it, and answers the same."""

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
