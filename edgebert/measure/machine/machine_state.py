"""The state of a machine that changes while it measures: load, frequencies, heat, memory, power."""

from __future__ import annotations

import os

from edgebert.measure.machine import cgroup, cores, heat
from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles
from edgebert.report.environment import MachineState

TICKS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""Columns of /proc/stat's first line (proc_stat(5))."""
BUSY = ("user", "nice", "system", "irq", "softirq")
"""Columns that count time in which a core worked."""


def read_state(files: KernelFiles = THIS_MACHINE) -> MachineState:
    """Reads the state of this machine now. Never raises."""
    memory = files.fields("proc/meminfo")
    ticks = _ticks(files)
    return MachineState(
        load_average=load_average(files),
        frequencies_mhz=cores.frequencies_mhz(files),
        temperature_c=heat.temperature_c(files),
        throttle_count=heat.throttle_count(files),
        firmware_flags=heat.firmware_flags(files),
        capped=heat.capped(files),
        quota_throttled_us=cgroup.throttled_us(files),
        stolen_ticks=ticks.get("steal"),
        busy_ticks=sum(ticks[name] for name in BUSY) if ticks else None,
        available_bytes=kilobytes(memory, "MemAvailable"),
        swap_used_bytes=_swap_used(memory),
        swapped_pages=_swapped(files),
        on_battery=_on_battery(files),
    )


def load_average(files: KernelFiles) -> float | None:
    """Load average of the last minute; without /proc, from the C library."""
    first = (files.text("proc/loadavg") or "").split(" ")[0]
    if first.replace(".", "", 1).isdigit():
        return float(first)
    return round(os.getloadavg()[0], 2) if files == THIS_MACHINE and hasattr(os, "getloadavg") else None


def kilobytes(memory: dict[str, str], name: str) -> int | None:
    """Bytes in one line of /proc/meminfo; None without the line."""
    value = memory.get(name, "").removesuffix(" kB")
    return int(value) * 1024 if value.isdigit() else None


def _ticks(files: KernelFiles) -> dict[str, int]:
    values = files.fields("proc/stat").get("cpu", "").split()
    if len(values) < len(TICKS) or not all(value.isdigit() for value in values):
        return {}
    return dict(zip(TICKS, map(int, values), strict=False))


def _swap_used(memory: dict[str, str]) -> int | None:
    total, free = kilobytes(memory, "SwapTotal"), kilobytes(memory, "SwapFree")
    return None if total is None or free is None else total - free


def _swapped(files: KernelFiles) -> int | None:
    counts = files.fields("proc/vmstat")
    values = [counts[name] for name in ("pswpin", "pswpout") if counts.get(name, "").isdigit()]
    return sum(map(int, values)) if values else None


def _on_battery(files: KernelFiles) -> bool | None:
    """Whether the machine runs on battery: mains report `online`, else a battery whether it discharges
    (power/power_supply_class.rst). None without a battery."""
    supplies = files.find("sys/class/power_supply/*/type")
    mains = [files.number(path.removesuffix("type") + "online") for path in supplies if files.text(path) in ("Mains", "USB")]
    cells = [path.removesuffix("type") for path in supplies if files.text(path) == "Battery"]
    cells = [cell for cell in cells if files.text(f"{cell}scope") != "Device"]  # a mouse's
    if not cells:
        return None
    if any(mains):
        return False
    return any(files.text(f"{cell}status") == "Discharging" for cell in cells)
