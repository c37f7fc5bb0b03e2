"""The cores of the CPU: their kinds, which of them share one core, and what decides their frequency.

From the kernel's files: admin-guide/pm/cpufreq.rst, intel_pstate.rst, amd-pstate.rst, cputopology.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.errors import InputError
from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles

CPUS = "sys/devices/system/cpu"
ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd49": "Neoverse-N2",
    "0xd4d": "Cortex-A715",
    "0xd4e": "Cortex-X3",
    "0xd4f": "Neoverse-V2",
    "0xd80": "Cortex-A520",
    "0xd81": "Cortex-A720",
    "0xd82": "Cortex-X4",
    "0xd84": "Neoverse-V3",
    "0xd8e": "Neoverse-N3",
}
"""Part of Arm Limited (implementer 0x41) -> its name, from the kernel's arch/arm64/include/asm/cputype.h."""


@dataclass(frozen=True)
class Topology:
    """The cores by their numbers. A core here is what the kernel numbers: one hardware thread."""

    online: tuple[int, ...] = ()
    """Cores that are switched on."""
    usable: tuple[int, ...] = ()
    """Cores that this process may use."""
    isolated: tuple[int, ...] = ()
    """Cores that the scheduler leaves alone (isolcpus)."""
    siblings: tuple[tuple[int, ...], ...] = ()
    """Cores of each physical core, a group for each; empty where the kernel does not say."""
    fast: tuple[int, ...] = ()
    """Cores of the fastest kind, where there are several kinds."""


def read_topology(usable: Sequence[int], files: KernelFiles = THIS_MACHINE) -> Topology:
    """Reads the cores.

    Args:
        usable: the cores that this process may use.
    """
    groups = {files.cores(path) for path in files.find(f"{CPUS}/cpu[0-9]*/topology/thread_siblings_list")}
    return Topology(
        online=files.cores(f"{CPUS}/online"),
        usable=tuple(usable),
        isolated=files.cores(f"{CPUS}/isolated"),
        siblings=tuple(sorted(group for group in groups if group)),
        fast=_fast(files),
    )


def cores_to_pin(topology: Topology, count: int = 1) -> tuple[int, ...]:
    """The cores that disturb `count` busy threads least, in ascending order; all usable ones where there are fewer.

    Isolated ones first. Then one hardware thread of each physical core before the second of any; of those the fastest kind
    first, and then the highest numbers, for core 0 serves most interrupts.
    """
    apart = set(topology.usable) & set(topology.isolated)
    ordered = [*_by_turns(topology, apart), *_by_turns(topology, set(topology.usable) - apart)]
    return tuple(sorted(ordered[:count]))


def _by_turns(topology: Topology, cores: set[int]) -> list[int]:
    """The cores in the order in which they are chosen."""
    fast = set(topology.fast) or cores
    of_core = {core: group for group in topology.siblings for core in group}
    groups = {tuple(sorted({core, *of_core.get(core, ())} & cores)) for core in cores}
    ordered = sorted(groups, key=lambda group: (group[0] in fast, group[0]), reverse=True)
    most = max(map(len, ordered), default=0)
    return [group[turn] for turn in range(most) for group in ordered if turn < len(group)]


def _fast(files: KernelFiles) -> tuple[int, ...]:
    """The fastest kind of cores: Intel names its large cores, ARM gives each core a capacity."""
    if named := files.cores("sys/devices/cpu_core/cpus"):
        return named
    capacity = {int(path.split("/")[-2][3:]): files.number(path) or 0 for path in files.find(f"{CPUS}/cpu[0-9]*/cpu_capacity")}
    if len(set(capacity.values())) < 2:
        return ()
    return tuple(sorted(core for core, value in capacity.items() if value == max(capacity.values())))


def core_kinds(files: KernelFiles) -> tuple[str, ...]:
    """Names of the kinds of cores: ARM's parts, or Intel's large and small cores. Empty where they have no names."""
    if files.cores("sys/devices/cpu_core/cpus") and files.cores("sys/devices/cpu_atom/cpus"):
        return ("performance", "efficient")
    parts = [line.partition(":")[2].strip() for line in files.lines("proc/cpuinfo") if line.startswith("CPU part")]
    return tuple(sorted({ARM_PARTS.get(part, f"ARM part {part}") for part in parts}))


def threads_per_core(topology: Topology) -> int | None:
    """Most hardware threads of one physical core; 2 where SMT is on."""
    return max(map(len, topology.siblings), default=None)


def governor(files: KernelFiles) -> str | None:
    """The cpufreq governor, which decides the frequency; `mixed` where cores differ."""
    return _common(files, "scaling_governor")


def energy_preference(files: KernelFiles) -> str | None:
    """How far the CPU itself trades speed for energy, where its driver has such a preference."""
    return _common(files, "energy_performance_preference")


def _common(files: KernelFiles, name: str) -> str | None:
    found = {text for path in files.find(f"{CPUS}/cpu[0-9]*/cpufreq/{name}") if (text := files.text(path))}
    return "mixed" if len(found) > 1 else next(iter(found), None)


def turbo(files: KernelFiles) -> bool | None:
    """Whether cores may run above the frequency that they can hold."""
    off = files.number(f"{CPUS}/intel_pstate/no_turbo")
    if off is not None:
        return not off
    boost = files.number(f"{CPUS}/cpufreq/boost")
    if boost is not None:
        return bool(boost)
    each = files.numbers(f"{CPUS}/cpu[0-9]*/cpufreq/boost")
    return any(each) if each else None


def max_mhz(files: KernelFiles) -> float | None:
    """Highest frequency of any core, in MHz."""
    return max((value / 1e3 for value in files.numbers(f"{CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq")), default=None)


def frequencies_mhz(files: KernelFiles) -> tuple[float, ...]:
    """Frequency of each core now, in MHz: from cpufreq, else from /proc/cpuinfo, which virtual machines have too."""
    scaled = files.numbers(f"{CPUS}/cpu[0-9]*/cpufreq/scaling_cur_freq")
    if scaled:
        return tuple(value / 1e3 for value in scaled)
    values = [line.partition(":")[2].strip() for line in files.lines("proc/cpuinfo") if line.startswith("cpu MHz")]
    return tuple(float(value) for value in values if value.replace(".", "", 1).isdigit())


def usable() -> tuple[int, ...]:
    """Numbers of the cores that this process may use; empty where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def pin(cores: Sequence[int]) -> tuple[int, ...]:
    """Pins every thread of this process, and those that they start from now on, to the cores.

    A runtime is imported before: ONNX Runtime that is imported by a process that is pinned already does without AMX, which
    no service does, and libraries' threads that run by then are pinned with the others.

    Returns:
        The cores that it is pinned to; empty where `cores` is empty or the system has no such call.

    Raises:
        InputError: the process may not use one of the cores.
    """
    check_cores(cores)
    if not cores or not hasattr(os, "sched_setaffinity"):
        return ()
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, cores)
    return usable()


def _threads() -> list[int]:
    """Numbers of this process's threads; 0, the calling one, where the system does not list them."""
    try:
        return [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
    except OSError:
        return [0]


def check_cores(cores: Sequence[int]) -> None:
    """Raises InputError where this process may not use one of the cores."""
    allowed = usable()
    strange = sorted(set(cores) - set(allowed))
    if strange and allowed:
        raise InputError(f"There is no core {strange[0]} for this process to be pinned to: it may use {_ranges(allowed)}.")


def choose_cores(threads: int, instances: int = 1, *, files: KernelFiles = THIS_MACHINE) -> tuple[int, ...]:
    """Cores for `threads * instances` busy threads, as `cores_to_pin` puts them in order.

    Args:
        files: the kernel's files; by default this machine's.

    Returns:
        In ascending order; empty where the system cannot pin.
    """
    return cores_to_pin(read_topology(usable(), files), threads * instances)


def _ranges(cores: Iterable[int]) -> str:
    """(0, 1, 2, 5) -> `0-2, 5`."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
