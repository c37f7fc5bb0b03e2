"""Checks of others that share the cores: processes, hardware threads, quotas, hypervisors."""

from __future__ import annotations

from edgebert.measure.doctor.facts import NOT_TOLD, Diagnosis, Facts, Level
from edgebert.measure.machine.cores import cores_to_pin

BUSY, VERY_BUSY = 0.02, 0.1
"""Share of all cores that others may take: beyond the first a note, beyond the second unstable."""
STOLEN = 0.01
"""Share of all cores' time that a hypervisor may give to others."""


def load(facts: Facts) -> Diagnosis:
    """Time that other processes took during the trial."""
    before, after = facts.before.busy_ticks, facts.after.busy_ticks
    why, mend = "they take the core, the caches and the memory away in the middle of a query", "stop them, or see with: top"
    if before is None or after is None:
        average = facts.after.load_average
        seen = NOT_TOLD if average is None else f"load average {average:.2f}"
        busy = average is not None and average > VERY_BUSY * facts.all_cores + 1
        return Diagnosis("load of others", "note", seen, why if busy else "", mend if busy else "")
    others = max(0.0, (after - before) / facts.ticks_per_second - facts.own_seconds) / facts.seconds
    seen = f"{others:.2f} of {_cores(facts.all_cores)}"
    if others <= BUSY * facts.all_cores:
        return Diagnosis("load of others", "ok", seen)
    return Diagnosis("load of others", "unstable" if others > VERY_BUSY * facts.all_cores else "note", seen, why, mend)


def siblings(facts: Facts) -> Diagnosis:
    """Two hardware threads share one core's units."""
    found = facts.environment.threads_per_core
    if found is None:
        return Diagnosis("SMT", "note", NOT_TOLD)
    if found < 2:
        return Diagnosis("SMT", "ok", "one thread a core")
    return Diagnosis(
        "SMT",
        "note",
        f"{found} threads a core",
        "what runs on a core's other thread takes part of its units",
        "keep to one thread of each core, or: echo off | sudo tee /sys/devices/system/cpu/smt/control",
    )


def quota(facts: Facts) -> Diagnosis:
    """A quota stops the process in the middle of a query when its share of a period is spent."""
    found, cores = facts.environment.cpu_quota, facts.environment.cores
    if found is None:
        return Diagnosis("CPU quota", "ok", "none")
    before, after = facts.before.quota_throttled_us, facts.after.quota_throttled_us
    held = 0 if before is None or after is None else after - before
    seen = f"{found:g} of {_cores(cores)}" + (f", held back {held / 1e3:.0f} ms just now" if held else "")
    return Diagnosis(
        "CPU quota",
        "unstable" if held else "note",
        seen,
        "when the share of a period is spent, everything stops until the next one: whole cores do not",
        "give the container cores instead: docker run --cpuset-cpus 2,3 (Kubernetes: static CPU manager, whole CPUs)",
    )


def virtual(facts: Facts) -> Diagnosis:
    """Neighbours on the same machine do not show."""
    found = facts.environment.virtual
    if found is None:
        return Diagnosis("virtual machine", "note", NOT_TOLD)
    if not found:
        return Diagnosis("virtual machine", "ok", "no")
    why = "neighbours share caches, memory and cores, and neither heat nor frequency shows"
    return Diagnosis(
        "virtual machine", "note", "yes", why, "compare only what was measured in the same run, or on a dedicated host"
    )


def stolen(facts: Facts) -> Diagnosis:
    """Time that the hypervisor gave to others."""
    before, after = facts.before.stolen_ticks, facts.after.stolen_ticks
    if before is None or after is None:
        return Diagnosis("stolen time", "note", NOT_TOLD)
    share = (after - before) / facts.ticks_per_second / facts.seconds / facts.all_cores
    if share <= 0:
        return Diagnosis("stolen time", "ok", "none")
    why = "the hypervisor ran others on these cores meanwhile"
    level: Level = "unstable" if share > STOLEN else "note"
    return Diagnosis(
        "stolen time", level, f"{share:.1%} of all cores' time", why, "another time, or a machine with cores of its own"
    )


def cores(facts: Facts) -> Diagnosis:
    """Which cores disturb a measurement least."""
    topology, kinds = facts.topology, facts.environment.core_kinds
    best = _list(cores_to_pin(topology, facts.threads))
    if not best:
        return Diagnosis("cores", "note", f"{_cores(facts.environment.cores)}; {NOT_TOLD} which are which")
    command = f"edgebert bench ... --pin {best}"
    seen = _cores(len(topology.usable)) + (f", {' and '.join(kinds)}" if len(kinds) > 1 else "")
    if set(topology.usable) & set(topology.isolated):
        return Diagnosis("cores", "ok", f"{seen}; the scheduler leaves {_list(topology.isolated)} alone", mend=command)
    if topology.fast:
        why = "a process that wanders between kinds of cores has two latencies"
        return Diagnosis("cores", "unstable", f"{seen}; the fast ones are {_list(topology.fast)}", why, command)
    why = "none is kept free: the scheduler moves processes and puts others beside them"
    return Diagnosis("cores", "note", seen, why, f"{command} (and isolcpus={best} on the kernel's command line)")


def autogroup(facts: Facts) -> Diagnosis:
    """Time is shared between sessions first."""
    found = facts.environment.autogroup
    if not found:
        return Diagnosis("autogroup", "ok", "off" if found is not None else NOT_TOLD)
    why = "sessions share time before processes do, so `nice` does not reach over to another session"
    return Diagnosis("autogroup", "note", "on", why, "echo 0 | sudo tee /proc/sys/kernel/sched_autogroup_enabled")


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _list(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


CHECKS = (load, siblings, quota, virtual, stolen, cores, autogroup)
