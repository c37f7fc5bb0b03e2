"""Checks of the CPU's speed: governor, turbo, frequencies, heat, throttling, battery."""

from __future__ import annotations

from edgebert.measure.doctor.facts import NOT_TOLD, Diagnosis, Facts, Level
from edgebert.measure.machine import heat
from edgebert.measure.machine.cooling import COOLER_BY_C, held_back

CPU = "/sys/devices/system/cpu"
UNEVEN = 0.1
"""Relative difference between the cores' frequencies that is reported."""


def governor(facts: Facts) -> Diagnosis:
    """A governor that follows the load answers it late."""
    found, preference = facts.environment.governor, facts.environment.energy_preference
    if found is None:
        return Diagnosis(
            "governor", "note", NOT_TOLD, "a frequency that follows the load makes short queries slower than long ones"
        )
    seen = found if preference is None else f"{found}, prefers {preference}"
    if found == "performance":
        return Diagnosis("governor", "ok", seen)
    return Diagnosis(
        "governor",
        "unstable",
        seen,
        "the frequency follows the load and comes late: the same query is slow after a pause and fast after work",
        f"echo performance | sudo tee {CPU}/cpu*/cpufreq/scaling_governor",
    )


def turbo(facts: Facts) -> Diagnosis:
    """Boost depends on heat and on how many cores work."""
    found = facts.environment.turbo
    if found is None:
        return Diagnosis("turbo", "note", NOT_TOLD)
    if not found:
        return Diagnosis("turbo", "ok", "off")
    return Diagnosis(
        "turbo",
        "note",
        "on",
        "how far it goes depends on heat and on how many cores work; leave it on where the model will run with it",
        f"echo 0 | sudo tee {CPU}/cpufreq/boost (or: echo 1 | sudo tee {CPU}/intel_pstate/no_turbo)",
    )


def frequency(facts: Facts) -> Diagnosis:
    """Whether the cores' frequencies differ now."""
    found = facts.after.frequencies_mhz
    if not found:
        return Diagnosis("frequency", "note", NOT_TOLD)
    lowest, highest, limit = min(found), max(found), facts.environment.max_mhz
    seen = f"{lowest:.0f} to {highest:.0f} MHz" if highest - lowest >= 1 else f"{highest:.0f} MHz"
    seen += "" if limit is None else f" of at most {limit:.0f}"
    if lowest >= (1 - UNEVEN) * highest:
        return Diagnosis("frequency", "ok", seen)
    why = "a query is slower on a core that runs slower"
    return Diagnosis("frequency", "note", seen, why, "governor performance, and pin what is measured to one core")


def temperature(facts: Facts) -> Diagnosis:
    """Near the limit the CPU slows itself down."""
    found = facts.after.temperature_c
    if found is None:
        return Diagnosis("temperature", "note", NOT_TOLD, "a hot CPU slows itself down, and nobody could tell")
    held = held_back(facts.before, facts.after)
    seen = f"{found:.0f} C, may slow down from {facts.limit_c:.0f} C"
    seen += ", but has not" if found >= facts.limit_c and held is False else ""
    why, mend = "a hot CPU slows itself down", "cool it (a fan, a heat sink, space), or let it rest between measurements"
    if found >= facts.limit_c and held is not False:
        return Diagnosis("temperature", "unstable", seen, why, mend)
    return Diagnosis("temperature", "note" if found >= facts.limit_c - COOLER_BY_C else "ok", seen, why, mend)


def throttling(facts: Facts) -> Diagnosis:
    """Whether the speed was held down, during the trial or before."""
    flags, count = facts.after.firmware_flags or 0, facts.after.throttle_count
    mend = "cool it, and measure again"
    if held_back(facts.before, facts.after):
        return Diagnosis("throttling", "unstable", "throttled just now", "the CPU runs slower than it can", mend)
    if flags & heat.LOW_VOLTAGE:
        level: Level = "unstable" if flags & 1 else "note"
        seen = "the supply's voltage is too low" if flags & 1 else "the supply's voltage was too low since the start"
        return Diagnosis(
            "throttling", level, seen, "the firmware lowers the frequency then", "a stronger power supply and cable"
        )
    if held_back(facts.before, facts.after) is None:
        return Diagnosis("throttling", "note", NOT_TOLD, "reports cannot mark what was measured while throttled")
    if count or flags & heat.HELD_SINCE_START:
        times = f" {count} times" if count else ""
        return Diagnosis(
            "throttling", "note", f"not now, but{times} since the start", "long measurements may meet it again", mend
        )
    return Diagnosis("throttling", "ok", "none")


def battery(facts: Facts) -> Diagnosis:
    """On battery, firmware and governor save energy."""
    found = facts.after.on_battery
    if found:
        return Diagnosis("power", "unstable", "on battery", "firmware and governor save energy then", "plug it in")
    return Diagnosis("power", "ok", "no battery" if found is None else "mains")


CHECKS = (governor, turbo, frequency, temperature, throttling, battery)
