"""Faulty: wraps a device and cuts its connection where a test wants it to. A fake that ships with the package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgebert.devices.transport.base import Channel, Completed, Device, OnEvent
from edgebert.errors import DeviceLost


class Faulty(Device):
    """A device whose connection is cut. Each fault happens once; afterwards the device works like the inner one.

    Args:
        cut_after: bytes of bodies that are sent before the cut.
        cut_while: `op` of the request whose agent is ended at its first event.
        lose_answer: `op` of the request that is carried out, and whose answer is lost.
        refuse: number of connections that fail.
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
        self.inner, self.python, self._target = inner, inner.python, inner.target
        self.cut_after, self.cut_while, self.lose_answer, self.refuse = cut_after, cut_while, lose_answer, refuse
        self.sent_bytes = 0
        """Bytes of bodies, over all connections."""
        self.asked: list[str] = []
        """`op` of every request."""

    @property
    def machine(self) -> str:
        """Machine of the inner device."""
        return self.inner.machine

    @property
    def where(self) -> str:
        return self.inner.where

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Connects to the inner device."""
        if self.refuse:
            self.refuse -= 1
            raise self.cut()
        async with self.inner.open() as channel:
            yield FaultyChannel(self, channel)

    def cut(self) -> DeviceLost:
        """The error for a connection that was cut."""
        return DeviceLost(f"The connection to {self.name} was cut.")


class FaultyChannel:
    """A channel that is cut as its device says. The methods are those of `Channel`."""

    def __init__(self, device: Faulty, inner: Channel) -> None:
        self._device, self._inner = device, inner

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
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
        """The body up to the cut. The last part is sent before the connection ends, as in a network."""
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

        asking = asyncio.create_task(self._inner.ask(request, body=body, on_event=lambda event: happened.set()))
        waiting = asyncio.create_task(happened.wait())
        try:
            await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, waiting):
                task.cancel()
            await asyncio.gather(asking, waiting, return_exceptions=True)
        raise self._device.cut()

    async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
        return await self._inner.run(arguments, on_line=on_line)

    async def put(self, source: Path, target: str) -> None:
        await self._inner.put(source, target)
