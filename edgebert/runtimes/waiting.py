"""Waiting until an exact moment: asleep for most of it, awake for the last stretch."""

from __future__ import annotations

import os
import select
import time

AWAKE_NS = 200_000
"""Of the wait: the kernel wakes a sleeper 50 us late by default (PR_SET_TIMERSLACK in prctl(2)), and later on a busy core."""


def wait_until(moment_ns: int) -> None:
    """Returns at a moment of time.perf_counter_ns, at once where it has passed."""
    clock = time.perf_counter_ns
    left = moment_ns - clock()
    if left > AWAKE_NS:
        time.sleep((left - AWAKE_NS) / 1e9)
    while clock() < moment_ns:
        let_others_run()


def let_others_run() -> None:
    """Gives up Python's lock for an instant; a loop that keeps it would hold up threads whose answers are ready."""
    if os.name == "posix":
        select.select((), (), (), 0)  # sleep(0) takes the 50 us of slack as well
    else:
        time.sleep(0)
