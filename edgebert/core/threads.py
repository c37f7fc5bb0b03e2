"""Whether this process may start the threads that libraries start while they are imported.

They cannot say so themselves: OpenBLAS sends the process the signal of Ctrl-C, and OpenMP ends it with code 1.
"""

from __future__ import annotations

import os
import threading

from edgebert.core.faults import no_threads

MOST = 128
"""Most threads that a library starts by itself."""


def require_threads() -> None:
    """Starts as many threads as a library would, and ends them.

    Raises:
        EnvironmentFault: the user, the container or the machine allows fewer.
    """
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(_usual()):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise no_threads() from error
    finally:
        end.set()
        for thread in started:
            thread.join()


def _usual() -> int:
    """Threads that a library starts: one a core, or what OMP_NUM_THREADS says."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(named) if named.isdecimal() else cores, MOST)
