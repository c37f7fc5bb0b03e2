"""The process that repeats a fixed piece of work. Imports next to nothing, so that it starts at once."""

from __future__ import annotations

import json
import sys
import time

from edgebert.measure.machine.reference_workload import time_reference_workload

AT_ONCE, WARM_UP = 8, 16


def repeat(seconds: float) -> list[int]:
    """Nanoseconds of each run of the reference workload: AT_ONCE or more, after WARM_UP untimed runs."""
    time_reference_workload(WARM_UP)
    ends = time.perf_counter() + seconds
    times = time_reference_workload(AT_ONCE)
    while time.perf_counter() < ends:
        times += time_reference_workload(AT_ONCE)
    return times


if __name__ == "__main__":
    sys.stdout.write(json.dumps(repeat(float(sys.argv[1]))))
