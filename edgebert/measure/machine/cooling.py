"""Waits until a hot CPU has cooled down, and tells whether it throttled during a measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgebert.core.progress import Progress
from edgebert.measure.machine import heat
from edgebert.measure.machine.kernel_files import THIS_MACHINE
from edgebert.measure.machine.machine_state import read_state
from edgebert.report.environment import MachineState

LOOK_EVERY_S = 2.0
"""Seconds between two readings while it waits."""
COOLER_BY_C = 5.0
"""Degrees below the limit at which a wait ends, or the next process would reach the limit at once."""
LARGEST_QUOTA_SHARE = 0.01
"""Largest share of a process's wall time that the cgroup's quota may hold it back without a mark on the round."""


def held_back(before: MachineState, after: MachineState) -> bool | None:
    """Whether something held the CPU's speed down between two readings, or does now; None where the system does not say."""
    signs: list[bool] = []
    if before.throttle_count is not None and after.throttle_count is not None:
        signs.append(after.throttle_count > before.throttle_count)
    if after.firmware_flags is not None:
        new = after.firmware_flags & ~(before.firmware_flags or 0)
        signs.append(bool(after.firmware_flags & heat.HELD_NOW or new & heat.HELD_SINCE_START))
    if after.capped is not None:
        signs.append(after.capped)
    return any(signs) if signs else None


def throttled(before: MachineState, after: MachineState, wall_ns: int | None, limit_c: float) -> bool | None:
    """Whether the machine throttled between two readings. Where the system does not say, a CPU that was too hot counts as such.

    Args:
        wall_ns: nanoseconds that the process ran; without it the quota's part is not known.
        limit_c: temperature in degrees Celsius from which on the CPU is slowed down.

    Returns:
        None where the system has no reading of heat at all; a quota alone can give True, but not False.
    """
    if wall_ns and before.quota_throttled_us is not None and after.quota_throttled_us is not None:
        held_us = after.quota_throttled_us - before.quota_throttled_us
        if held_us > LARGEST_QUOTA_SHARE * wall_ns / 1e3:
            return True
    held = held_back(before, after)
    warm = [state.temperature_c for state in (before, after) if state.temperature_c is not None]
    if held is not None or not warm:
        return held
    return any(value >= limit_c for value in warm)


@dataclass
class Cooling:
    """Waits before a process while the CPU is too hot or throttles. All waits of one run share `allowance_s`."""

    progress: Progress
    allowance_s: float = 120.0
    limit_c: float = heat.DEFAULT_LIMIT_C
    read: Callable[[], MachineState] = read_state
    sleep: Callable[[float], None] = time.sleep
    waited_s: float = field(default=0.0, init=False)
    _seen: MachineState | None = field(default=None, init=False)

    def wait(self) -> MachineState:
        """Returns the state of the machine in which the next process starts: cool, or as it is once the allowance is spent."""
        state = self.read()
        if self._is_hot(self._seen or state, state, self.limit_c):
            state = self._cool(state)
        self._seen = state
        return state

    def after(self, before: MachineState, wall_ns: int | None) -> bool | None:
        """Whether the machine throttled since `wait` returned `before`; see `throttled`."""
        return throttled(before, self.read(), wall_ns, self.limit_c)

    def _cool(self, state: MachineState) -> MachineState:
        goal, started = self.limit_c - COOLER_BY_C, self.waited_s
        if started >= self.allowance_s:
            return state
        self.progress.note(f"waits until the CPU has cooled{_to(state, goal)}, at most {self.allowance_s - started:.0f} s")
        last, hot = state, True
        while hot and self.waited_s < self.allowance_s:
            pause = min(LOOK_EVERY_S, self.allowance_s - self.waited_s)
            self.sleep(pause)
            self.waited_s += pause
            last, state = state, self.read()
            hot = self._is_hot(last, state, goal)
        end = "the CPU is still too hot" if hot else "the CPU has cooled"
        self.progress.note(f"{end} after {self.waited_s - started:.0f} s")
        return state

    def _is_hot(self, before: MachineState, after: MachineState, limit_c: float) -> bool:
        warm = after.temperature_c is not None and after.temperature_c >= limit_c
        return warm or held_back(before, after) is True


def _to(state: MachineState, goal: float) -> str:
    """` from 84 to 75 C`; empty without a thermometer, where only throttling is counted."""
    return "" if state.temperature_c is None else f" from {state.temperature_c:.0f} to {goal:.0f} C"


def open_cooling(progress: Progress, allowance_s: float = 120.0) -> Cooling:
    """Cooling for this machine, with its own limit."""
    return Cooling(progress, allowance_s, heat.limit_c(THIS_MACHINE))
