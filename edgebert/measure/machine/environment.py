"""The machine and the libraries that a measurement happened on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgebert.core.packages import package_version
from edgebert.measure.machine import cgroup, cores
from edgebert.measure.machine.cores import usable
from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles
from edgebert.measure.machine.machine_state import kilobytes, load_average
from edgebert.report.environment import Environment
from edgebert.runtimes import RUNTIMES
from edgebert.runtimes.isa import Cpu, host_cpu, parse_cpuinfo
from edgebert.version import __version__

PACKAGES = (
    *("edgebert", "numpy"),
    *(runtime.package for runtime in RUNTIMES),
    *("tokenizers", "torch", "transformers", "onnx", "nncf", "optimum"),
)
"""Packages whose versions a report records, where they are installed."""
VARIABLES = (
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_CONF",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "OPENBLAS_NUM_THREADS",
    "TBB_NUM_THREADS",
)
"""Variables of the process that change how libraries compute: threads, where they run, and which allocator they use."""
BOOT_OPTIONS = (
    "amd_pstate",
    "clocksource",
    "cpuidle.off",
    "default_hugepagesz",
    "hugepages",
    "idle",
    "intel_idle.max_cstate",
    "intel_pstate",
    "isolcpus",
    "mitigations",
    "nohz_full",
    "nosmt",
    "preempt",
    "processor.max_cstate",
    "rcu_nocbs",
    "transparent_hugepage",
    "tsc",
)
"""Parameters of the kernel that change latencies (admin-guide/kernel-parameters.txt)."""
VIRTUAL_PRODUCTS = (
    "virtual",
    "vmware",
    "kvm",
    "qemu",
    "hvm domu",
    "bochs",
    "openstack",
    "google compute engine",
    "linux,dummy-virt",
)


def read_environment(files: KernelFiles = THIS_MACHINE) -> Environment:
    """Reads the environment of this machine. Never raises."""
    cpu = _cpu(files)
    flags = _flags(files)
    topology = cores.read_topology((), files)
    return Environment(
        cpu=cpu.model,
        isa=cpu.isas,
        cores=usable_cores(),
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name)) != "none"},
        load_average=load_average(files),
        flags=flags,
        core_kinds=cores.core_kinds(files),
        threads_per_core=cores.threads_per_core(topology),
        governor=cores.governor(files),
        energy_preference=cores.energy_preference(files),
        turbo=cores.turbo(files),
        max_mhz=cores.max_mhz(files),
        isolated=topology.isolated,
        boot_options=_boot_options(files),
        huge_pages=_chosen(files.text("sys/kernel/mm/transparent_hugepage/enabled")),
        autogroup=_switch(files.number("proc/sys/kernel/sched_autogroup_enabled")),
        board=_board(files),
        virtual=_virtual(files, flags),
        clock=files.text("sys/devices/system/clocksource/clocksource0/current_clocksource") or None,
        memory_bytes=kilobytes(files.fields("proc/meminfo"), "MemTotal"),
        cpu_quota=cgroup.cpu_quota(files),
        memory_limit_bytes=cgroup.memory_limit(files),
        variables={name: Path(value).name for name in VARIABLES if (value := os.environ.get(name))},
    )


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(usable()) or os.cpu_count() or 1


def _cpu(files: KernelFiles) -> Cpu:
    """The CPU. Where Linux names no model, as on ARM, its parts are the name."""
    cpu = host_cpu() if files == THIS_MACHINE else parse_cpuinfo(files.text("proc/cpuinfo") or "")
    parts = cores.core_kinds(files)
    unnamed = cpu.model in ("unknown", "", platform.processor())
    return Cpu(" + ".join(parts), cpu.isas, cpu.bfloat16) if unnamed and parts else cpu


def _flags(files: KernelFiles) -> tuple[str, ...]:
    """Flags that every core has: a thread may run on any core."""
    lines = [line.partition(":")[2].split() for line in files.lines("proc/cpuinfo") if line.startswith(("flags", "Features"))]
    return tuple(sorted(set.intersection(*map(set, lines)))) if lines else ()


def _boot_options(files: KernelFiles) -> tuple[str, ...]:
    words = (files.text("proc/cmdline") or "").split()
    return tuple(word for word in words if word.partition("=")[0] in BOOT_OPTIONS)


def _chosen(text: str | None) -> str | None:
    """The word in brackets: `always [madvise] never`."""
    return next((word.strip("[]") for word in (text or "").split() if word.startswith("[")), None)


def _switch(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _board(files: KernelFiles) -> str | None:
    """Name of the board, from the device tree, else from the firmware's tables."""
    tree = files.text("proc/device-tree/model") or files.text("sys/firmware/devicetree/base/model")
    maker, product = (files.text(f"sys/class/dmi/id/{name}") or "" for name in ("sys_vendor", "product_name"))
    return tree or " ".join(filter(None, (maker, product))) or None


def _virtual(files: KernelFiles, flags: tuple[str, ...]) -> bool | None:
    """Whether this is a virtual machine, by the CPU's flag, the hypervisor's files and the names of board and firmware, as
    systemd-detect-virt tells it."""
    board = (_board(files) or "").lower()
    if "hypervisor" in flags or files.text("sys/hypervisor/type") or files.find("proc/device-tree/hypervisor"):
        return True
    if any(word in board for word in VIRTUAL_PRODUCTS):
        return True
    return False if board or "fpu" in flags else None  # a CPU of x86 that has no such flag is not virtual


def _version(name: str) -> str:
    return __version__ if name == "edgebert" else package_version(name)
