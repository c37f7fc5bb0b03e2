"""Faulty: any device, with a way to it that ends where a test wants it to. Ships with the package, as every fake of a seam."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgebert.devices.agent.protocol import Advance, Note, Received
from edgebert.devices.transport.base import Channel, Completed, Device, OnEvent
from edgebert.errors import DeviceLost


class Faulty(Device):
    """A device whose connection is cut. Each fault happens once; afterwards the device is as good as the one inside.

    Args:
        cut_after: bytes of bodies that still go through.
        cut_while: `op` of the request whose agent is ended at its first event.
        lose_answer: `op` of the request that is carried out, and whose answer is lost.
        refuse: this many times it cannot be reached at all.
    """

    def __init__(
        self,
        inner: Device,
        *,
        cut_after: int | None = None,
        cut_while: str | None = None,
        lose_answer: str | None = None,
        refuse: int = 0,
    ) -> None:
        self.name, self.root, self.labels = inner.name, inner.root, inner.labels
        self.inner, self.python = inner, inner.python
        self.cut_after, self.cut_while, self.lose_answer, self.refuse = cut_after, cut_while, lose_answer, refuse
        self.sent_bytes = 0
        """Of bodies, over all connections."""
        self.asked: list[str] = []
        """`op` of every request."""

    @property
    def target(self) -> str:
        """As the device inside."""
        return self.inner.target

    @property
    def machine(self) -> str:
        """As the device inside."""
        return self.inner.machine

    @property
    def where(self) -> str:
        """As the device inside."""
        return self.inner.where

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Opens the device inside."""
        if self.refuse:
            self.refuse -= 1
            raise self.cut()
        async with self.inner.open() as channel:
            yield FaultyChannel(self, channel)

    def cut(self) -> DeviceLost:
        """What is said of a connection that was cut."""
        return DeviceLost(f"The connection to {self.name} was cut.")


class FaultyChannel:
    """A channel that ends as its device says."""

    def __init__(self, device: Faulty, inner: Channel) -> None:
        self._device, self._inner = device, inner

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """As `Channel.ask`, but for the faults."""
        device, op = self._device, str(getattr(request, "op", ""))
        device.asked.append(op)
        counted = None if body is None else self._counted(body)
        if op == device.cut_while:
            device.cut_while = None
            return await self._cut_at_event(request, counted)
        value = await self._inner.ask(request, body=counted, on_event=on_event)
        if op == device.lose_answer:
            device.lose_answer = None
            raise device.cut()
        return value

    async def _counted(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body up to the cut. The last part goes out before the connection ends, as a network would have it."""
        device = self._device
        async for part in body:
            if device.cut_after is not None and len(part) >= device.cut_after:
                part, device.cut_after = part[: device.cut_after], None
                device.sent_bytes += len(part)
                yield part
                raise device.cut()
            if device.cut_after is not None:
                device.cut_after -= len(part)
            device.sent_bytes += len(part)
            yield part

    async def _cut_at_event(self, request: BaseModel, body: AsyncIterator[bytes] | None) -> dict[str, Any]:
        happened = asyncio.Event()

        def heard(event: Note | Advance | Received) -> None:
            happened.set()

        asking = asyncio.create_task(self._inner.ask(request, body=body, on_event=heard))
        waiting = asyncio.create_task(happened.wait())
        try:
            await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, waiting):
                task.cancel()
            await asyncio.gather(asking, waiting, return_exceptions=True)
        raise self._device.cut()

    async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
        """As the channel inside."""
        return await self._inner.run(arguments, on_line=on_line)

    async def put(self, source: Path, target: str) -> None:
        """As the channel inside."""
        await self._inner.put(source, target)
