"""The process that repeats a fixed piece of work. Imports next to nothing, so that it starts at once."""

from __future__ import annotations

import json
import sys
import time

from edgebert.measure.machine.reference_workload import take_pulse

AT_ONCE, WARM_UP = 8, 16


def repeat(seconds: float) -> list[int]:
    """Nanoseconds of each pulse, of AT_ONCE at least, after WARM_UP untimed ones."""
    take_pulse(WARM_UP)
    ends = time.perf_counter() + seconds
    times = take_pulse(AT_ONCE)
    while time.perf_counter() < ends:
        times += take_pulse(AT_ONCE)
    return times


if __name__ == "__main__":
    sys.stdout.write(json.dumps(repeat(float(sys.argv[1]))))
