"""How hot the CPU is, and whether something holds its speed down.

From the kernel's files: driver-api/thermal/sysfs-api.rst, hwmon/sysfs-interface.rst, x86's thermal_throttle counters
(arch/x86/kernel/cpu/mce/therm_throt.c), and the flags of Raspberry Pi's firmware (`vcgencmd get_throttled`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from edgebert.measure.machine.kernel_files import KernelFiles

DEFAULT_LIMIT_C, PI_LIMIT_C = 95.0, 80.0
"""Limits where the system names none: many x86 CPUs are built for 95 C; a Raspberry Pi's firmware slows down from 80 C on."""
SENSORS_WITH_LIMIT = ("coretemp", "k10temp", "zenpower")
"""Sensors whose temp*_crit is where the CPU slows itself down (hwmon/coretemp.rst, k10temp.rst). For others it is where the
machine is switched off; temp*_max is where fans should run at full speed, or a constant."""
CPU_ZONE = re.compile(r".*(cpu|soc|pkg|cluster|core).*", re.IGNORECASE)
"""Types of the CPU's thermal zones; acpitz is somewhere on the board."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal")
POSSIBLE_C = (-40.0, 150.0)
"""Lowest and highest possible reading: sensors that are switched off give 0 K or a constant far away."""
HELD_NOW, HELD_SINCE_START = 0b1110, 0b1110 << 16
"""Bits of Raspberry Pi's flags: frequency capped, throttled, soft temperature limit; bits 0 and 16 are low voltage."""
LOW_VOLTAGE = 1 | 1 << 16


def temperature_c(files: KernelFiles) -> float | None:
    """Temperature of the CPU's hottest sensor, in degrees Celsius."""
    readings = [value for zone in _zones(files) for value in files.numbers(f"{zone}/temp")]
    for name in files.find("sys/class/hwmon/hwmon*/name"):
        if files.text(name) in CPU_SENSORS:
            readings += _inputs(files, name.removesuffix("/name"))
    return max((value / 1e3 for value in readings if POSSIBLE_C[0] < value / 1e3 < POSSIBLE_C[1]), default=None)


def limit_c(files: KernelFiles) -> float:
    """Degrees Celsius from which on the CPU is slowed down: its lowest passive trip point, else its sensor's limit.

    PI_LIMIT_C or DEFAULT_LIMIT_C where the system has neither.
    """
    assumed = DEFAULT_LIMIT_C if firmware_flags(files) is None else PI_LIMIT_C
    return min(_likely(_trips(files)), default=min(_likely(_critical(files)), default=assumed))


def _trips(files: KernelFiles) -> Iterator[int]:
    """Passive trip points of the CPU's zones, in thousandths of a degree."""
    for kind in (path for zone in _zones(files) for path in files.find(f"{zone}/trip_point_*_type")):
        value = files.number(kind.removesuffix("type") + "temp")
        if files.text(kind) == "passive" and value is not None:
            yield value


def _critical(files: KernelFiles) -> Iterator[int]:
    """Limits of the CPU's own sensors, in thousandths of a degree."""
    for name in files.find("sys/class/hwmon/hwmon*/name"):
        if files.text(name) in SENSORS_WITH_LIMIT:
            yield from files.numbers(name.removesuffix("name") + "temp*_crit")


def _likely(limits: Iterable[int]) -> list[float]:
    """Limits in degrees, without those that are not set."""
    return [value / 1e3 for value in limits if 40.0 <= value / 1e3 < POSSIBLE_C[1]]


def throttle_count(files: KernelFiles) -> int | None:
    """How often the CPU throttled since its start: the counts of all cores, and of each package once."""
    folders = files.find("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
    cores = [value for folder in folders if (value := files.number(f"{folder}/core_throttle_count")) is not None]
    packages: dict[str | None, int] = {}
    for folder in folders:
        package = files.text(folder.removesuffix("thermal_throttle") + "topology/physical_package_id")
        packages[package] = max(packages.get(package, 0), files.number(f"{folder}/package_throttle_count") or 0)
    return sum(cores) + sum(packages.values()) if cores else None


def firmware_flags(files: KernelFiles) -> int | None:
    """Raspberry Pi's `get_throttled`, whose bits HELD_NOW and HELD_SINCE_START name."""
    paths = files.find("sys/devices/platform/soc*/soc*firmware*/get_throttled")
    return next((value for path in paths if (value := files.number(path, 16)) is not None), None)


def capped(files: KernelFiles) -> bool | None:
    """Whether the kernel holds frequencies down now because of heat; None where it has no means to."""
    types = files.find("sys/class/thermal/cooling_device*/type")
    able = [path for path in types if re.match(r"(thermal-)?cpufreq|Processor", files.text(path) or "")]
    states = [files.number(path.removesuffix("type") + "cur_state") for path in able]
    known = [state for state in states if state is not None]
    return any(known) if known else None


def _zones(files: KernelFiles) -> list[str]:
    types = files.find("sys/class/thermal/thermal_zone*/type")
    return [path.removesuffix("/type") for path in types if CPU_ZONE.fullmatch(files.text(path) or "")]


def _inputs(files: KernelFiles, sensor: str) -> list[int]:
    """Thousandths of a degree at one sensor. AMD's Tctl is left out beside Tdie: it has an offset for the fan."""
    labels = {path.removesuffix("_label"): files.text(path) for path in files.find(f"{sensor}/temp*_label")}
    offset = {name for name, label in labels.items() if label == "Tctl" and "Tdie" in labels.values()}
    names = [name for path in files.find(f"{sensor}/temp*_input") if (name := path.removesuffix("_input")) not in offset]
    return [value for name in names if (value := files.number(f"{name}_input")) is not None]
