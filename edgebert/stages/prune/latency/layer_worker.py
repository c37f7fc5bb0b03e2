"""The process that times small models one after the other. Imports only packages that a device has.

Prints a line for each model and length at once: a JSON array of the model's index, the length and nanoseconds.
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
"""Untimed queries at each length: they bring weights into the caches, from which the previous model drove them."""
QUERIES = (3, 400)
"""Fewest and most timed queries at each length."""
QUANTILE = 0.25
"""Quantile of the timed queries that counts: disturbances only add time, so the median of a busy machine is too slow."""


class LayerJob(Frozen):
    """The work of one process, read from its standard input."""

    target: Target
    models: tuple[str, ...]
    order: tuple[int, ...]
    """Indices in `models`, in the order of their turns."""
    lengths: tuple[int, ...]
    vocabulary: int
    seconds: float
    """Time for the timed queries of one model at one length."""


def serve(job: LayerJob) -> Iterator[tuple[int, int, int]]:
    """Yields (index of the model, length in tokens, latency in nanoseconds)."""
    for index in job.order:
        session = get_runtime(job.target.runtime).open(Path(job.models[index]), job.target)
        session.prepare([(job.target.batch, length) for length in job.lengths])
        for length in job.lengths:
            texts = random_texts(job.target.batch, length, job.vocabulary)
            yield index, length, latency_ns(session, collate(texts, length=length, pad_id=0), job.seconds)


def latency_ns(session: Session, batch: Batch, seconds: float) -> int:
    """QUANTILE of the latencies of as many queries as fit into `seconds`, within the limits of QUERIES."""
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


def random_texts(count: int, length: int, vocabulary: int) -> tuple[Encoded, ...]:
    """Texts of `length` random tokens, the same ones for equal arguments."""
    tokens = np.random.default_rng(length).integers(0, vocabulary, (count, length))
    return tuple(Encoded(tuple(map(int, row)), (0,) * length) for row in tokens)


if __name__ == "__main__":
    for timing in serve(LayerJob.model_validate_json(sys.stdin.read())):
        sys.stdout.write(json.dumps(timing) + "\n")
        sys.stdout.flush()
