"""The process that times a row of small models one after the other. Imports only what a device has.

Says one line for each model and length as soon as it is known: a JSON array of model, length and nanoseconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgebert.core.strict import Frozen
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch, Encoded, collate

WARM_UP = 2
"""Untimed queries at each length: they fetch the weights that the model before this one drove out of the caches."""
QUERIES = (3, 400)
"""Timed at least and at most, at each length."""
QUANTILE = 0.25
"""Of the timed queries: what disturbs a query only ever adds to it, so the middle says more about a busy machine."""


class LayerJob(Frozen):
    """What one process is told, on its standard input."""

    target: Target
    models: tuple[str, ...]
    order: tuple[int, ...]
    """Places in `models`, in the order of their turns."""
    lengths: tuple[int, ...]
    vocabulary: int
    seconds: float
    """For the timed queries of one model at one length."""


def serve(job: LayerJob) -> Iterator[tuple[int, int, int]]:
    """Place of the model, length, and its latency in nanoseconds."""
    for index in job.order:
        session = get_runtime(job.target.runtime).open(Path(job.models[index]), job.target)
        session.prepare([(job.target.batch, length) for length in job.lengths])
        for length in job.lengths:
            yield index, length, latency_ns(session, random_batch(job, length), job.seconds)


def latency_ns(session: Session, batch: Batch, seconds: float) -> int:
    """QUANTILE of the latencies of as many queries as fit into `seconds`, within QUERIES."""
    for _ in range(WARM_UP):
        session.predict(batch)
    clock = time.perf_counter_ns
    least, most = QUERIES
    latencies: list[int] = []
    ends = clock() + seconds * 1e9
    while len(latencies) < least or (clock() < ends and len(latencies) < most):
        before = clock()
        session.predict(batch)
        latencies.append(clock() - before)
    return int(np.quantile(latencies, QUANTILE))


def random_batch(job: LayerJob, length: int) -> Batch:
    """Tokens without padding, the same ones every time."""
    tokens = np.random.default_rng(length).integers(0, job.vocabulary, (job.target.batch, length))
    return collate([Encoded(tuple(map(int, row)), (0,) * length) for row in tokens], length=length, pad_id=0)


if __name__ == "__main__":
    for timing in serve(LayerJob.model_validate_json(sys.stdin.read())):
        sys.stdout.write(json.dumps(timing) + "\n")
        sys.stdout.flush()
