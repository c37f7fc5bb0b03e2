"""Which devices may be worked on at the same time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgebert.devices.transport.base import Device


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
