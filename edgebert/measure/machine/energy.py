"""Energy that the CPU took, where the machine counts it.

RAPL by way of powercap (kernel doc: power/powercap/powercap.rst): one zone for each package, in microjoules, which starts
again at 0 after `max_energy_range_uj`. Zones within a package are part of it, and `psys` contains it, so neither is added.
Since Linux 5.10 only root reads it (CVE-2020-8694). Else hwmon's `energy*_input`, in microjoules as well
(hwmon/sysfs-interface.rst): of the sockets where those are named, else of the one device that has a counter.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles

GRAPHICS = ("amdgpu", "i915", "nouveau", "xe")
"""hwmon devices whose energy is not the CPU's."""
CPUS = ("amd_energy",)
"""hwmon devices that count for each core where they name no socket (hwmon/amd_energy.rst)."""
MOST_WATTS = 500.0
"""Most watts of one package. They tell how long a counter of some range starts again once at most."""


@dataclass(frozen=True)
class Counter:
    """A file that counts microjoules."""

    path: str
    wraps_after: int | None = None
    """Largest value in microjoules; the next value is 0. None: it never starts again."""

    def may_wrap_twice(self, wall_ns: int) -> bool:
        """Whether the counter can go through its whole range in this time."""
        return self.wraps_after is not None and wall_ns / 1e3 * MOST_WATTS > self.wraps_after


@dataclass(frozen=True)
class EnergyMeter:
    """All counters of the machine's CPU; without any, nothing is measured."""

    counters: tuple[Counter, ...]
    files: KernelFiles = THIS_MACHINE

    def read(self) -> dict[str, int]:
        """Microjoules of each counter that can be read."""
        values = {counter.path: self.files.number(counter.path) for counter in self.counters}
        return {path: value for path, value in values.items() if value is not None}

    def watch(self) -> Watch:
        """A context that counts the energy taken within it."""
        return Watch(self)

    def between(self, before: Mapping[str, int], after: Mapping[str, int], wall_ns: int) -> int | None:
        """Microjoules of all packages between two readings; None where those of any package are not known.

        They are not known where a counter may have started again more than once in between: a common range of 2^32 counts of
        61 uJ lasts 524 s at MOST_WATTS.
        """
        parts = [
            None if counter.may_wrap_twice(wall_ns) else _added(counter, before.get(counter.path), after.get(counter.path))
            for counter in self.counters
        ]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None


class Watch(contextlib.AbstractContextManager["Watch"]):
    """Counts the energy taken within it. `microjoules` and `wall_ns` are set at the end; None where the energy is not known."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter
        self.microjoules: int | None = None
        self.wall_ns = 0

    def __enter__(self) -> Watch:
        self._before, self._started = self._meter.read(), time.perf_counter_ns()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._meter.read()
        self.wall_ns = time.perf_counter_ns() - self._started
        self.microjoules = self._meter.between(self._before, after, self.wall_ns)


def open_meter(files: KernelFiles = THIS_MACHINE) -> EnergyMeter:
    """A meter of this machine's counters: those of RAPL if there are any. Without counters where one cannot be read."""
    counters = _rapl(files) or _hwmon(files)
    readable = all(files.number(counter.path) is not None for counter in counters)
    return EnergyMeter(counters if readable else (), files)


def forbidden(files: KernelFiles = THIS_MACHINE) -> bool:
    """Whether there is a counter that this user may not read."""
    return any(files.number(counter.path) is None for counter in _rapl(files) or _hwmon(files))


def _rapl(files: KernelFiles) -> tuple[Counter, ...]:
    zones = [
        zone for zone in files.find("sys/class/powercap/intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", zone.split("/")[-1])
    ]
    packages = [zone for zone in zones if (files.text(f"{zone}/name") or "").startswith("package")]
    return tuple(Counter(f"{zone}/energy_uj", files.number(f"{zone}/max_energy_range_uj")) for zone in packages)


def _hwmon(files: KernelFiles) -> tuple[Counter, ...]:
    """Counters of the sockets where they have names, for others are their cores then; else of a CPU's cores, else the only one.

    With several counters of unknown devices it is not known which is the CPU's, or which contains which.
    """
    devices = [
        path.removesuffix("/name") for path in files.find("sys/class/hwmon/hwmon*/name") if files.text(path) not in GRAPHICS
    ]
    paths = [path for device in devices for path in files.find(f"{device}/energy*_input")]
    labels = {path: files.text(path.removesuffix("input") + "label") or "" for path in paths}
    sockets = [path for path in paths if "socket" in labels[path].lower()]
    cores = [path for path in paths if files.text(f"{path.rpartition('/')[0]}/name") in CPUS]
    return tuple(Counter(path) for path in sockets or cores or (paths if len(paths) == 1 else ()))


def _added(counter: Counter, before: int | None, after: int | None) -> int | None:
    if before is None or after is None:
        return None
    if after >= before:
        return after - before
    return None if counter.wraps_after is None else after + counter.wraps_after + 1 - before
