"""The reference workload: a fixed piece of work without a model, timed before and after the queries.

Where two measurements differ in its time as in their latency, the machine changed and not the model. A fifth of the work is
arithmetic in a core's own caches; the rest reads more memory than they hold, as a model reads its weights, because neighbours
slow that down most. It runs on one thread and takes two milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import mmap
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

HASHED, HASHES = 64 << 10, 16
"""Bytes of the buffer that is hashed, which fits into a core's own caches, and how often it is."""
READ, READS = 24 << 20, 3
"""Bytes of the buffer that is summed, which does not fit, and how often it is."""


def time_reference_workload(times: int = 8) -> list[int]:
    """Nanoseconds of each run of the work, after one untimed run."""
    # Mapped and not allocated: freeing a block of this size would change how malloc gives memory to the model afterwards
    # (M_MMAP_THRESHOLD in mallopt(3)).
    with mmap.mmap(-1, READ) as memory:
        numbers: npt.NDArray[np.int64] = np.ndarray(READ // 8, np.int64, memory)
        numbers[:] = 1  # pages that nobody wrote to are all the same one
        try:
            return [_work(bytes(HASHED), numbers) for _ in range(times + 1)][1:]
        finally:
            del numbers  # a mapping with a view of it cannot be closed


def _work(hashed: bytes, numbers: npt.NDArray[np.int64]) -> int:
    started = time.perf_counter_ns()
    digest = hashlib.sha256()
    for _ in range(HASHES):
        digest.update(hashed)
    digest.digest()
    for _ in range(READS):
        numbers.sum()
    return time.perf_counter_ns() - started


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within it Python's garbage collector is off. It runs once before, and objects alive then are not examined again."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
