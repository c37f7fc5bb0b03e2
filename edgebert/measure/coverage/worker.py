"""The process that runs one query, counts its matrix products, and measures the core's INT8 rate."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgebert.core.strict import Frozen
from edgebert.measure.coverage.products import Executed, Product
from edgebert.report.rounds import Coverage, FloatProduct
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Encoded, collate

RATE_SHAPE = (256, 1024, 1024)
"""Rows, inner and columns of the product that the rate is measured with; its weight fits into a core's second-level cache."""
WARM_UP = 3
SECONDS, REPEATS = 0.3, 5
"""Least seconds and number of timed repeats. Disturbances only ever add time, so the fastest counts."""


class CoverageJob(Frozen):
    """The work of the process, on its standard input."""

    model: str
    target: Target
    length: int
    folder: str
    """Folder for the files that the runtime writes about its graph; the caller removes it."""


def measure(job: CoverageJob) -> Coverage:
    """Counts the products of one query and measures the rate.

    Raises:
        EdgebertError: the model cannot be opened.
        ValueError: it runs products that cannot be counted.
    """
    target = job.target
    name = get_runtime(target.runtime).products_reader
    assert name is not None, "measure_coverage refuses a runtime without a reader"
    reader = importlib.import_module(name)
    text = Encoded((0,) * job.length, (0,) * job.length)  # which tokens does not matter
    batch = collate([text] * target.batch, length=job.length, pad_id=0)
    executed = reader.executed(Path(job.model), target, batch, Path(job.folder))
    rate = math.prod(RATE_SHAPE) / fastest_seconds(reader.int8_product(target, RATE_SHAPE))
    return coverage(executed, job, rate)


def coverage(executed: Executed, job: CoverageJob, rate: float) -> Coverage:
    """The record of the executed products, with an INT8 rate in MACs a second.

    Raises:
        ValueError: there was no product.
    """
    left = [_record(product) for product in executed.products if not product.int8]
    found = sum(product.macs for product in executed.products)
    if not found and not executed.macs:
        raise ValueError("the model multiplied no matrices")
    if executed.macs is not None and executed.macs > found:
        left.append(FloatProduct(name="(not seen in the compiled graph)", op="unknown", shape=(), macs=executed.macs - found))
    return Coverage(
        int8_macs=sum(product.macs for product in executed.products if product.int8),
        all_macs=max(found, executed.macs or 0),
        length=job.length,
        batch=job.target.batch,
        kernels=dict(sorted(executed.kernels.items())),
        float_products=tuple(sorted(left, key=lambda item: -item.macs)),
        int8_macs_per_second=rate,
    )


def _record(product: Product) -> FloatProduct:
    return FloatProduct(name=product.name, op=product.op, shape=product.shape, macs=product.macs)


def fastest_seconds(run: Callable[[], object]) -> float:
    """Seconds of the fastest of as many repeats as fit into SECONDS, or of REPEATS, after WARM_UP untimed ones."""
    for _ in range(WARM_UP):
        run()
    clock = time.perf_counter_ns
    times: list[int] = []
    ends = clock() + SECONDS * 1e9
    while len(times) < REPEATS or clock() < ends:
        before = clock()
        run()
        times.append(clock() - before)
    return min(times) / 1e9


if __name__ == "__main__":
    sys.stdout.write(measure(CoverageJob.model_validate_json(sys.stdin.read())).model_dump_json())
