"""One piece of work for several devices at a time. A device that fails does not stop the others."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from edgebert.core.parallel_progress import ParallelProgress, ProgressLine
from edgebert.devices.setup.text import Reached, unusable
from edgebert.devices.transport.base import Device
from edgebert.errors import DeviceError, EdgebertError

Work = Callable[[Device, ProgressLine], Awaitable[Reached]]


class AtOnce:
    """`found` can be read at any time, also after the work was cancelled."""

    def __init__(self, devices: Sequence[Device], work: Work, progress: ParallelProgress, parallel: int) -> None:
        self._devices, self._work = tuple(devices), work
        self._lines = {device.name: progress.line(device.name) for device in devices}
        self._places = asyncio.Semaphore(parallel)
        self._found: dict[str, Reached] = {}

    @property
    def found(self) -> list[Reached]:
        """One for each device, in their order."""
        empty = (Reached(device.name, "interrupted", reason="stopped") for device in self._devices)
        return [self._found.get(item.device, item) for item in empty]

    async def run(self) -> None:
        """Works on all of them."""
        async with asyncio.TaskGroup() as group:
            for device in self._devices:
                group.create_task(self._one(device))

    async def _one(self, device: Device) -> None:
        line = self._lines[device.name]
        async with self._places:
            try:
                found = await self._work(device, line)
            except EdgebertError as error:
                found = unusable(device.name, error)
            except Exception as error:  # ours, and no reason to stop the other devices
                found = unusable(device.name, own_fault(error))
        self._found[device.name] = found
        line.end(f"{found.state}: {found.reason}" if found.reason else found.state)


def own_fault(error: Exception) -> DeviceError:
    """What to say of it. With EDGEBERT_DEBUG its trace is shown."""
    if os.environ.get("EDGEBERT_DEBUG"):
        traceback.print_exception(error)
    hint = "This is a fault in edgebert. EDGEBERT_DEBUG=1 shows where."
    return DeviceError(f"{type(error).__name__}: {error}", hint=hint)


class Turns:
    """So many devices at a time, and one at a time of those that are one machine: measured together, they would slow each
    other down."""

    def __init__(self, parallel: int) -> None:
        self._any = asyncio.Semaphore(parallel)
        self._machines: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def turn(self, device: Device) -> AsyncIterator[None]:
        """Waits until the device may be worked on."""
        async with self._machines[device.machine], self._any:  # the machine first: who waits for it holds nobody up
            yield
