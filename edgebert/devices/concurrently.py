"""Work on several devices at once, where one that fails does not stop the others, and the exit code and hints of them all."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from edgebert.core.parallel_progress import ParallelProgress, ProgressLine
from edgebert.devices.transport.base import Device
from edgebert.errors import EXIT_OK, DeviceError, EdgebertError

NOTHING = "-"
"""Cell of a table whose value is not known."""


class DeviceResult(Protocol):
    """Result of one device."""

    @property
    def device(self) -> str:
        """Name of the device."""

    @property
    def exit_code(self) -> int:
        """Exit code that this device alone would end the command with."""

    @property
    def summary(self) -> str:
        """Last line of its progress."""


Result = TypeVar("Result", bound=DeviceResult)
Work = Callable[[Device, ProgressLine], Awaitable[Result]]


class Turns:
    """At most `parallel` devices at a time.

    Args:
        one_a_machine: devices that are one machine wait for each other: measured together, they would slow each other down.
    """

    def __init__(self, parallel: int, *, one_a_machine: bool = True) -> None:
        self._any, self._one_a_machine = asyncio.Semaphore(parallel), one_a_machine
        self._machines: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def turn(self, device: Device) -> AsyncIterator[None]:
        """Waits until the device may be worked on."""
        # The machine's lock first: a device that waits for its machine must not keep others from working.
        async with self._machines[device.machine if self._one_a_machine else device.name], self._any:
            yield


class AtOnce(Generic[Result]):
    """One piece of work for several devices. `results` can be read at any time, also after the work was cancelled.

    Args:
        failed: makes the result of a device whose work raised that error.
        absent: makes the result of a device whose work did not end.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        work: Work[Result],
        *,
        failed: Callable[[str, EdgebertError], Result],
        absent: Callable[[str], Result],
        progress: ParallelProgress,
        turns: Turns,
    ) -> None:
        self._devices, self._work, self._failed, self._absent, self._turns = tuple(devices), work, failed, absent, turns
        self._lines = {device.name: progress.line(device.name) for device in devices}
        self._results: dict[str, Result] = {}

    @property
    def results(self) -> list[Result]:
        """One for each device, in their order."""
        return [self._results.get(device.name) or self._absent(device.name) for device in self._devices]

    async def run(self) -> None:
        """Works on all devices."""
        async with asyncio.TaskGroup() as group:
            for device in self._devices:
                group.create_task(self._one(device))

    async def _one(self, device: Device) -> None:
        line = self._lines[device.name]
        async with self._turns.turn(device):
            try:
                result = await self._work(device, line)
            except Exception as error:
                result = self._failed(device.name, as_edgebert_error(error))
        self._results[device.name] = result
        line.end(result.summary)


def as_edgebert_error(error: Exception) -> EdgebertError:
    """The error itself, or for a fault in edgebert one that says so; its traceback is printed if EDGEBERT_DEBUG is set."""
    if isinstance(error, EdgebertError):
        return error
    if os.environ.get("EDGEBERT_DEBUG"):
        traceback.print_exception(error)
    hint = "This is a fault in edgebert. EDGEBERT_DEBUG=1 shows where."
    return DeviceError(f"{type(error).__name__}: {error}", hint=hint)


def lowest_exit_code(results: Iterable[DeviceResult]) -> int:
    """0 where every device succeeded; else the lowest code of a device: a verdict before input before surroundings."""
    return min((item.exit_code for item in results if item.exit_code), default=EXIT_OK)


def hint_lines(hints: Iterable[str | None]) -> list[str]:
    """The lines of the hints, each hint once. They are indented, so that none can pass for a device's row of the table."""
    return [f"  {line}" for hint in dict.fromkeys(hints) if hint for line in hint.splitlines()]
