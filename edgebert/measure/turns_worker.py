"""The process in which models take turns. Imports only what a device has."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from edgebert.measure.latency import rotated
from edgebert.measure.turns import Job, Timings
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch, Encoded, collate

QUERIES = (8, 64)
"""At least and at most, for one model in one round."""


def serve(job: Job) -> Timings:
    """Opens every model, warms up, and lets them take turns."""
    queries = [_queries(job, turn.target) for turn in job.turns]
    sessions: list[Session] = []
    for turn, asked in zip(job.turns, queries, strict=True):
        session = get_runtime(turn.target.runtime).open(Path(turn.model), turn.target)
        session.prepare([query["input_ids"].shape for query in asked])
        sessions.append(session)
    count = _affordable(sessions[0], queries[0], job.seconds)
    for session, asked in zip(sessions, queries, strict=True):
        _medians(session, asked[:count])
    medians = np.zeros((len(sessions), job.rounds))
    for number in range(job.rounds):
        for place in rotated(len(sessions), number):
            medians[place, number] = _medians(sessions[place], queries[place][:count])
    return Timings(medians=tuple(tuple(map(float, row)) for row in medians))


def _queries(job: Job, target: Target) -> list[Batch]:
    texts = [Encoded(ids, types) for ids, types in job.texts]
    found = []
    for start in range(0, len(texts) - target.batch + 1, target.batch):
        group = texts[start : start + target.batch]
        length = target.padded_length(max(map(len, group)), job.max_length)
        found.append(collate(group, length=length, pad_id=job.pad_id))
    return found[: QUERIES[1]]


def _affordable(session: Session, queries: list[Batch], seconds: float) -> int:
    """How many queries fit into the time, by the first few."""
    first = queries[: QUERIES[0]]
    for query in first:
        session.predict(query)
    before = time.perf_counter()
    for query in first:
        session.predict(query)
    each = (time.perf_counter() - before) / len(first)
    return int(min(max(seconds / each, QUERIES[0]), len(queries)))


def _medians(session: Session, queries: list[Batch]) -> float:
    clock = time.perf_counter_ns
    latencies = []
    for query in queries:
        before = clock()
        session.predict(query)
        latencies.append(clock() - before)
    return float(np.median(latencies))


if __name__ == "__main__":
    sys.stdout.write(serve(Job.model_validate_json(sys.stdin.read())).model_dump_json())
