"""Pinning: keeping a process to some cores, so that the scheduler does not move it between them while it is timed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgebert.errors import InputError

CPUS = Path("/sys/devices/system/cpu")


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


def choose_cores(threads: int, instances: int = 1, *, cpus: Path = CPUS) -> tuple[int, ...]:
    """Cores for `threads * instances` busy threads, in ascending order: all that there are where those are fewer.

    Whole physical cores first, one hardware thread of each, and the highest numbers first, for core 0 takes most interrupts.

    Args:
        cpus: the kernel's folder of CPUs (Documentation/ABI/stable/sysfs-devices-system-cpu: topology/thread_siblings_list).

    Returns:
        Empty where the system cannot pin.
    """
    allowed = usable()
    groups = {_siblings(core, cpus) & set(allowed) for core in allowed}
    ordered = [sorted(group) for group in sorted(groups, key=min, reverse=True)]
    most = max(map(len, ordered), default=0)
    by_turns = [group[turn] for turn in range(most) for group in ordered if turn < len(group)]
    return tuple(sorted(by_turns[: threads * instances]))


def _siblings(core: int, cpus: Path) -> frozenset[int]:
    """The hardware threads of a core's physical core, itself among them."""
    try:
        listed = parse_list((cpus / f"cpu{core}" / "topology" / "thread_siblings_list").read_text())
    except (OSError, ValueError):
        return frozenset({core})
    return frozenset({core, *listed})


def parse_list(text: str) -> tuple[int, ...]:
    """The kernel's lists of CPUs: `0-2,5` -> (0, 1, 2, 5).

    Raises:
        ValueError: it is not one.
    """
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _ranges(cores: Iterable[int]) -> str:
    """(0, 1, 2, 5) -> `0-2, 5`."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
