"""Pulse: the time of a fixed piece of work that no model is part of, taken before and after the queries.

Where two measurements differ in their pulse as in their latency, the machine changed and not the model. The work is half
arithmetic and half copying, both outside of Python and on one thread: a few milliseconds.
"""

from __future__ import annotations

import hashlib
import mmap
import time

HASHED, HASHES = 64 << 10, 64
"""Bytes of the buffer that is hashed (they fit into a core's own caches), and how often."""
COPIED, COPIES = 4 << 20, 8
"""Bytes of the buffer that is copied (they do not), and how often."""


def take_pulse(times: int = 8) -> list[int]:
    """Nanoseconds of the work, as often as asked, after one that does not count."""
    # Mapped and not allocated: freeing blocks of this size would change how malloc gives memory to the model afterwards
    # (M_MMAP_THRESHOLD in mallopt(3)).
    with (
        mmap.mmap(-1, COPIED) as source,
        mmap.mmap(-1, COPIED) as copy,
        memoryview(source) as read,
        memoryview(copy) as written,
    ):
        return [_work(read, written) for _ in range(times + 1)][1:]


def _work(read: memoryview, written: memoryview) -> int:
    started = time.perf_counter_ns()
    digest = hashlib.sha256()
    for _ in range(HASHES):
        digest.update(read[:HASHED])
    digest.digest()
    for _ in range(COPIES):
        written[:] = read
    return time.perf_counter_ns() - started
