"""The process in which models take turns. Imports only what a device has."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgebert.core.strict import Frozen
from edgebert.measure.latency.latency import rotated
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch, Encoded, collate

QUERIES = 8
"""Queries of one model in one turn: few, so that a disturbance of the machine hits every model."""
ROUNDS = (5, 60)
"""Fewest and most turns of each model."""


class TurnsJob(Frozen):
    """The work of the process, on its standard input."""

    turns: tuple[Turn, ...]
    texts: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Token and segment ids of each text, in the order of the queries."""
    pad_id: int
    max_length: int
    seconds: float
    """Seconds for each model in all; the first model's speed decides how many turns that is."""


class Turn(Frozen):
    """One model and how it runs."""

    model: str
    target: Target


class Timings(Frozen):
    """Median latencies in nanoseconds, of shape (models, rounds)."""

    medians: tuple[tuple[float, ...], ...]

    def ratio(self, index: int, reference: int = 0) -> float:
        """How many times faster a model is than the reference: median over the rounds."""
        ours, theirs = self._of(index), self._of(reference)
        return float(np.median(theirs / ours))

    def p50_ms(self, index: int) -> float:
        """Median latency over the rounds, in milliseconds."""
        return float(np.median(self._of(index))) / 1e6

    def _of(self, index: int) -> npt.NDArray[np.float64]:
        return np.array(self.medians[index], dtype=np.float64)


def serve(job: TurnsJob) -> Timings:
    """Opens every model, warms up, and lets them take turns."""
    queries = [_queries(job, turn.target) for turn in job.turns]
    sessions: list[Session] = []
    for turn, asked in zip(job.turns, queries, strict=True):
        session = get_runtime(turn.target.runtime).open(Path(turn.model), turn.target)
        session.prepare([query["input_ids"].shape for query in asked])
        sessions.append(session)
    for session, asked in zip(sessions, queries, strict=True):
        _median(session, asked)
    rounds = _affordable(sessions[0], queries[0], job.seconds)
    medians = np.zeros((len(sessions), rounds))
    for number in range(rounds):
        for index in rotated(len(sessions), number):
            medians[index, number] = _median(sessions[index], _share(queries[index], number))
    return Timings(medians=tuple(tuple(map(float, row)) for row in medians))


def _share(queries: list[Batch], number: int) -> list[Batch]:
    """The queries of one turn: the next ones, from the start again after the last."""
    return [queries[(number * QUERIES + index) % len(queries)] for index in range(QUERIES)]


def _queries(job: TurnsJob, target: Target) -> list[Batch]:
    texts = [Encoded(ids, types) for ids, types in job.texts]
    batches = []
    for start in range(0, len(texts) - target.batch + 1, target.batch):
        group = texts[start : start + target.batch]
        length = target.padded_length(max(map(len, group)), job.max_length)
        batches.append(collate(group, length=length, pad_id=job.pad_id))
    return batches


def _affordable(session: Session, queries: list[Batch], seconds: float) -> int:
    """Number of turns that fit into the time, estimated from one."""
    before = time.perf_counter()
    _median(session, _share(queries, 0))
    turn = time.perf_counter() - before
    return int(min(max(seconds / turn, ROUNDS[0]), ROUNDS[1]))


def _median(session: Session, queries: list[Batch]) -> float:
    clock = time.perf_counter_ns
    latencies = []
    for query in queries:
        before = clock()
        session.predict(query)
        latencies.append(clock() - before)
    return float(np.median(latencies))


if __name__ == "__main__":
    sys.stdout.write(serve(TurnsJob.model_validate_json(sys.stdin.read())).model_dump_json())
