"""Limits of the cgroup that this process runs in, as containers and batch systems set them.

Both versions, and both at once: cgroup-v2.rst (cpu.max, memory.max), and for version 1 scheduler/sched-bwc.rst and
cgroup-v1/memory.rst. A limit of any group above holds as well, so all groups are read, up to the mount.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from edgebert.measure.machine.kernel_files import KernelFiles

NO_LIMIT = 1 << 62
"""Bytes from which on a limit means none: version 1 writes the largest whole number of pages for it."""


def cpu_quota(files: KernelFiles) -> float | None:
    """Cores' worth of time that this process may use; None where nothing limits it."""
    return min(filter(None, (_quota(files, group) for group in groups(files, "cpu"))), default=None)


def memory_limit(files: KernelFiles) -> int | None:
    """Bytes of memory that this process may use; None where nothing limits it."""
    limits = [files.number(f"{group}/{name}") for group in groups(files, "memory") for name in _MEMORY]
    return min((value for value in limits if value is not None and value < NO_LIMIT), default=None)


def throttled_us(files: KernelFiles) -> int | None:
    """Microseconds that the quotas held processes back since the groups were made; None where there is no such count."""
    times = [value for group in groups(files, "cpu") if (value := _throttled(files, group)) is not None]
    return sum(times) if times else None


_MEMORY = ("memory.max", "memory.limit_in_bytes")


def _quota(files: KernelFiles, group: str) -> float | None:
    parts = (files.text(f"{group}/cpu.max") or "").split()
    if not parts:
        parts = [str(files.number(f"{group}/cpu.cfs_{name}_us")) for name in ("quota", "period")]
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not int(parts[1]):
        return None  # "max", and -1 in version 1: no limit
    return int(parts[0]) / int(parts[1])


def _throttled(files: KernelFiles, group: str) -> int | None:
    stat = files.fields(f"{group}/cpu.stat")
    if stat.get("throttled_usec", "").isdigit():
        return int(stat["throttled_usec"])
    return int(stat["throttled_time"]) // 1000 if stat.get("throttled_time", "").isdigit() else None


def groups(files: KernelFiles, controller: str) -> Iterator[str]:
    """Folders of this process's groups that may hold the controller, its own first, then those above it."""
    for kind, folder, top in _mounts(files, controller):
        own = _own_path(files, kind, controller)
        if own is None:
            continue
        inside = PurePosixPath(own)
        inside = inside.relative_to(top) if inside.is_relative_to(top) else PurePosixPath()
        inside = PurePosixPath(*inside.parts[inside.is_absolute() :])
        yield from (str(folder / part) for part in (inside, *inside.parents))


def _mounts(files: KernelFiles, controller: str) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """Version, folder below the root, and the group that is mounted there (proc_pid_mountinfo(5))."""
    for line in files.lines("proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        if kind[0] == "cgroup2" or controller in kind[2].split(","):
            yield kind[0], PurePosixPath(fields[4].lstrip("/")), PurePosixPath(fields[3])


def _own_path(files: KernelFiles, kind: str, controller: str) -> str | None:
    for line in files.lines("proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0" and not controllers) if kind == "cgroup2" else controller in controllers.split(","):
            return path
    return None
