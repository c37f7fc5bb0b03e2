"""Checks of the clock, the instruction set, the energy counter, the libraries and the process's variables."""

from __future__ import annotations

from edgebert.measure.doctor.facts import NOT_TOLD, Diagnosis, Facts
from edgebert.runtimes import RUNTIMES
from edgebert.runtimes.isa import ISA_FLAGS, saturates

SLOW_CLOCKS = ("acpi_pm", "hpet", "jiffies", "refined-jiffies")
KNOWN_CLOCKS = ("arch_sys_counter", "hyperv_clocksource_tsc_page", "kvm-clock", "tsc", "tsc-early")


def clock(facts: Facts) -> Diagnosis:
    """Reading a slow clock costs microseconds and a system call."""
    found = facts.environment.clock
    if found is None:
        return Diagnosis("clock", "note", NOT_TOLD)
    if found not in SLOW_CLOCKS:
        return Diagnosis("clock", "ok" if found in KNOWN_CLOCKS else "note", found)
    mend = "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource"
    return Diagnosis("clock", "unstable", found, "reading it is a system call that takes microseconds", mend)


def instructions(facts: Facts) -> Diagnosis:
    """Whether INT8 weights may use all 8 bits."""
    found = facts.environment.isa
    known = [isa for isa in ISA_FLAGS.values() if isa in found]
    if not known:
        return Diagnosis("INT8", "note", NOT_TOLD, "without knowing its instructions, weights get 7 bits")
    if "amx" in known and len(facts.topology.usable) == 1 < facts.all_cores:
        why = "ONNX Runtime that is imported by a process that is pinned to one core already does without AMX"
        mend = "start on all cores (no taskset, no cpuset), and pin the process once onnxruntime is imported, as bench does"
        return Diagnosis("INT8", "note", f"{', '.join(known)}; this process has one core", why, mend)
    if not saturates(known):
        return Diagnosis("INT8", "ok", f"{', '.join(known)}: weights of 8 bits")
    why = "without dot products of bytes sums of 8-bit products overflow, so that INT8 is less exact and gains less"
    return Diagnosis("INT8", "note", f"{', '.join(known)}: weights of 7 bits", why)


def energy(facts: Facts) -> Diagnosis:
    """Whether reports can have energy."""
    if facts.energy == "readable":
        return Diagnosis("energy", "ok", "there is a counter")
    if facts.energy == "absent":
        return Diagnosis("energy", "note", "no counter", "reports have no energy: n/a")
    mend = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next start)"
    return Diagnosis("energy", "note", "there is a counter that only root may read", "reports have no energy: n/a", mend)


def variables(facts: Facts) -> Diagnosis:
    """Variables of this process, which the measuring processes inherit."""
    found = facts.environment.variables
    if not found:
        return Diagnosis("variables", "ok", "none that changes how libraries compute")
    seen = " ".join(f"{name}={value}" for name, value in sorted(found.items()))
    why = "they change threads or allocators for this shell alone"
    return Diagnosis("variables", "note", seen, why, f"unset {' '.join(sorted(found))}, unless the model will run with them")


def libraries(facts: Facts) -> Diagnosis:
    """The libraries that compute."""
    runtimes = [runtime.package for runtime in RUNTIMES]
    found = {name: version for name, version in facts.environment.packages.items() if name in (*runtimes, "numpy")}
    seen = ", ".join(f"{name} {version}" for name, version in found.items())
    if any(name in found for name in runtimes):
        return Diagnosis("libraries", "ok", f"{seen}, Python {facts.environment.python}")
    return Diagnosis("libraries", "note", f"{seen}; no runtime", "nothing can be measured", "pip install onnxruntime")


def kernel(facts: Facts) -> Diagnosis:
    """The kernel and the options that it was started with."""
    return Diagnosis("kernel", "ok", ", ".join([facts.environment.system, *facts.environment.boot_options]))


CHECKS = (clock, instructions, energy, variables, libraries, kernel)
