"""Runs the trial between two readings of the machine, and every check on the facts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Literal

from edgebert.core.progress import Progress
from edgebert.measure.doctor import memory, sharing, software, speed, steadiness
from edgebert.measure.doctor.facts import Diagnosis, Facts
from edgebert.measure.doctor.trial import run_trial
from edgebert.measure.machine import energy, heat
from edgebert.measure.machine.cores import read_topology, usable
from edgebert.measure.machine.environment import read_environment
from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles
from edgebert.measure.machine.machine_state import read_state

CHECKS: tuple[Callable[[Facts], Diagnosis], ...] = (
    *speed.CHECKS,
    *sharing.CHECKS,
    *memory.CHECKS,
    *software.CHECKS,
    *steadiness.CHECKS,
)
LOOK_S = 0.2
"""Seconds between the two readings where no trial is wanted."""


def collect(seconds: float, progress: Progress, files: KernelFiles = THIS_MACHINE, threads: int = 1) -> Facts:
    """Reads the machine, runs the trial, and reads the machine again.

    Args:
        seconds: seconds of work in the trial; 0: no trial.
        threads: threads that a model is to be measured with.

    Raises:
        StageError: a process of the trial failed.
    """
    before, own, started = read_state(files), _own_seconds(), time.perf_counter()
    trial = run_trial(seconds, progress) if seconds else None
    if trial is None:
        time.sleep(LOOK_S)
    took, after = time.perf_counter() - started, read_state(files)
    return Facts(
        environment=read_environment(files),
        before=before,
        after=after,
        topology=read_topology(usable(), files),
        seconds=took,
        own_seconds=_own_seconds() - own,
        ticks_per_second=os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100,
        limit_c=heat.limit_c(files),
        energy=_energy(files),
        trial=trial,
        threads=threads,
    )


def examine(facts: Facts) -> list[Diagnosis]:
    """The diagnosis of every check, in a fixed order."""
    return [check(facts) for check in CHECKS]


def _own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _energy(files: KernelFiles) -> Literal["readable", "forbidden", "absent"]:
    if energy.open_meter(files).counters:
        return "readable"
    return "forbidden" if energy.forbidden(files) else "absent"
