"""Pinning: keeping a process to some cores, so that the scheduler does not move it between them while it is timed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edgebert.errors import InputError

if TYPE_CHECKING:
    from edgebert.measure.machine.kernel_files import KernelFiles


def usable() -> tuple[int, ...]:
    """Numbers of the cores that this process may use; empty where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def pin(cores: Sequence[int]) -> tuple[int, ...]:
    """Keeps this process, and the threads that it starts from now on, to the cores.

    Returns:
        The cores that it keeps to; empty where it was told none or the system has no such call.

    Raises:
        InputError: it may not use one of them.
    """
    check_cores(cores)
    if not cores or not hasattr(os, "sched_setaffinity"):
        return ()
    os.sched_setaffinity(0, cores)
    return usable()


def check_cores(cores: Sequence[int]) -> None:
    """Raises InputError where this process may not use one of the cores."""
    allowed = usable()
    strange = sorted(set(cores) - set(allowed))
    if strange and allowed:
        raise InputError(f"There is no core {strange[0]} for this process to be pinned to: it may use {_ranges(allowed)}.")


def choose_cores(threads: int, instances: int = 1, *, files: KernelFiles | None = None) -> tuple[int, ...]:
    """Cores for `threads * instances` busy threads, as `cores_to_pin` puts them in order.

    Args:
        files: the kernel's; by default this machine's.

    Returns:
        In ascending order; empty where the system cannot pin.
    """
    from edgebert.measure.machine.cpu_topology import (
        cores_to_pin,
        read_topology,
    )  # here, for a process that starts needs only `pin`
    from edgebert.measure.machine.kernel_files import THIS_MACHINE

    return cores_to_pin(read_topology(usable(), files or THIS_MACHINE), threads * instances)


def _ranges(cores: Iterable[int]) -> str:
    """(0, 1, 2, 5) -> `0-2, 5`."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
