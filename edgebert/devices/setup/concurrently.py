"""One piece of work for several devices at a time. A device that fails does not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from edgebert.core.parallel_progress import Lane, Lanes
from edgebert.devices.setup.text import Reached, unusable
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.own_fault import own_fault
from edgebert.errors import EdgebertError

Work = Callable[[Device, Lane], Awaitable[Reached]]


class AtOnce:
    """`found` can be read at any time, also after the work was cancelled."""

    def __init__(self, devices: Sequence[Device], work: Work, lanes: Lanes, parallel: int) -> None:
        self._devices, self._work = tuple(devices), work
        self._lanes = {device.name: lanes.lane(device.name) for device in devices}
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
        lane = self._lanes[device.name]
        async with self._places:
            try:
                found = await self._work(device, lane)
            except EdgebertError as error:
                found = unusable(device.name, error)
            except Exception as error:  # ours, and no reason to stop the other devices
                found = unusable(device.name, own_fault(error))
        self._found[device.name] = found
        lane.end(f"{found.state}: {found.reason}" if found.reason else found.state)
