"""How hot the CPU is, and whether something holds its speed down.

From the kernel's files: driver-api/thermal/sysfs-api.rst, hwmon/sysfs-interface.rst, x86's thermal_throttle counters
(arch/x86/kernel/cpu/mce/therm_throt.c), and the flags of Raspberry Pi's firmware (`vcgencmd get_throttled`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from edgebert.measure.machine.kernel_files import KernelFiles

DEFAULT_LIMIT_C, PI_LIMIT_C = 95.0, 80.0
"""Where the system names none: many CPUs of x86 are made to work at 95 C; a Raspberry Pi's firmware slows down from 80 C on."""
SENSORS_WITH_LIMIT = ("coretemp", "k10temp", "zenpower")
"""Their temp*_crit is where the CPU slows itself down (hwmon/coretemp.rst, k10temp.rst). Others' is where all is switched off,
and temp*_max is where fans should run at full speed, or a constant."""
CPU_ZONE = re.compile(r".*(cpu|soc|pkg|cluster|core).*", re.IGNORECASE)
"""Types of thermal zones that are the CPU's; acpitz is somewhere on the board."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal")
POSSIBLE_C = (-40.0, 150.0)
"""Sensors that are switched off tell 0 K or a constant far away."""
HELD_NOW, HELD_SINCE_START = 0b1110, 0b1110 << 16
"""Bits of Raspberry Pi's flags: frequency capped, throttled, soft temperature limit; bits 0 and 16 are low voltage."""
LOW_VOLTAGE = 1 | 1 << 16


def temperature_c(files: KernelFiles) -> float | None:
    """Of the hottest sensor of the CPU, in degrees Celsius."""
    found = [value for zone in _zones(files) for value in files.numbers(f"{zone}/temp")]
    for place in files.find("sys/class/hwmon/hwmon*/name"):
        if files.text(place) in CPU_SENSORS:
            found += _inputs(files, place.removesuffix("/name"))
    return max((value / 1e3 for value in found if POSSIBLE_C[0] < value / 1e3 < POSSIBLE_C[1]), default=None)


def limit_c(files: KernelFiles) -> float:
    """The CPU is slowed down from this temperature on: its lowest passive trip point, else what its sensor names.

    PI_LIMIT_C or DEFAULT_LIMIT_C where neither is told.
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
    for place in files.find("sys/class/hwmon/hwmon*/name"):
        if files.text(place) in SENSORS_WITH_LIMIT:
            yield from files.numbers(place.removesuffix("name") + "temp*_crit")


def _likely(found: Iterable[int]) -> list[float]:
    """In degrees, without those that nobody set."""
    return [value / 1e3 for value in found if 40.0 <= value / 1e3 < POSSIBLE_C[1]]


def throttle_count(files: KernelFiles) -> int | None:
    """Times that the CPU throttled since it was started: of all cores, and of each package once."""
    places = files.find("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
    cores = [value for index in places if (value := files.number(f"{index}/core_throttle_count")) is not None]
    packages: dict[str | None, int] = {}
    for index in places:
        package = files.text(index.removesuffix("thermal_throttle") + "topology/physical_package_id")
        packages[package] = max(packages.get(package, 0), files.number(f"{index}/package_throttle_count") or 0)
    return sum(cores) + sum(packages.values()) if cores else None


def firmware_flags(files: KernelFiles) -> int | None:
    """Raspberry Pi's `get_throttled`, whose bits HELD_NOW and HELD_SINCE_START name."""
    places = files.find("sys/devices/platform/soc*/soc*firmware*/get_throttled")
    return next((value for index in places if (value := files.number(index, 16)) is not None), None)


def capped(files: KernelFiles) -> bool | None:
    """Whether the kernel holds frequencies down for their heat, now; None where it has no such means."""
    places = files.find("sys/class/thermal/cooling_device*/type")
    able = [place for place in places if re.match(r"(thermal-)?cpufreq|Processor", files.text(place) or "")]
    states = [files.number(place.removesuffix("type") + "cur_state") for place in able]
    known = [state for state in states if state is not None]
    return any(known) if known else None


def _zones(files: KernelFiles) -> list[str]:
    places = files.find("sys/class/thermal/thermal_zone*/type")
    return [index.removesuffix("/type") for index in places if CPU_ZONE.fullmatch(files.text(index) or "")]


def _inputs(files: KernelFiles, sensor: str) -> list[int]:
    """Temperatures of one sensor. AMD's Tctl is Tdie with an offset for the fan, where there are both."""
    labels = {path.removesuffix("_label"): files.text(path) for path in files.find(f"{sensor}/temp*_label")}
    offset = {place for place, label in labels.items() if label == "Tctl" and "Tdie" in labels.values()}
    places = [place for path in files.find(f"{sensor}/temp*_input") if (place := path.removesuffix("_input")) not in offset]
    return [value for place in places if (value := files.number(f"{place}_input")) is not None]
