"""What every channel does in the same way, over commands that it starts."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgebert.devices.agent.protocol import Advance, Note, Received
from edgebert.devices.ship.delivery import Sent
from edgebert.devices.transport.base import Channel, Completed, OnEvent
from edgebert.devices.transport.conversation import ANSWERS_WITHIN_S, GOES_ON, SOON_S, Conversation, printable, within
from edgebert.devices.transport.running import NOT_FOUND, Running, StreamClosed, completed, read_lines, read_tail
from edgebert.errors import DeviceError, DeviceLost

AGENT = ("-P", "-m", "edgebert.slots.agent")
"""The agent by its former name, for devices of version 0.1; `former_names.py` forwards it to `devices/agent/agent.py`.
-P keeps the modules of the folder where it starts out of the way: a home may hold a random.py."""
NOT_RUNNABLE = 126
PART_BYTES = 1 << 16

# Takes standard input into a file beside the target and then puts it in its place. Runs on any Python 3.
TAKE_FILE = """
import os, shutil, sys
target = os.path.join(os.path.expanduser("~"), os.path.expanduser(sys.argv[1]))
size = int(sys.argv[2])
os.makedirs(os.path.dirname(target), exist_ok=True)
part = target + ".part"
with open(part, "wb") as file:
    shutil.copyfileobj(sys.stdin.buffer, file, 65536)
    file.flush()
    os.fsync(file.fileno())
if os.path.getsize(part) != size:
    sys.exit("it arrived incomplete")
os.replace(part, target)
"""


class CommandChannel(ABC):
    """A channel to a device where commands can be started.

    Args:
        name: of the device, for messages.
        target: what names it on the command line.
        pythons: programs that may hold edgebert, the first that is there is taken.
    """

    def __init__(self, *, name: str, target: str, pythons: Sequence[str]) -> None:
        self._name, self._target = name, target
        self._pythons = tuple(pythons)
        self._python: str | None = None

    @abstractmethod
    async def start(self, program: str, arguments: Sequence[str]) -> Running:
        """Starts a command; a program that begins with `~/` counts from the home of the user.

        Raises:
            DeviceLost: the connection is not there any more.
        """

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """As `Channel.ask`."""
        python = await self._find_python()
        async with within(ANSWERS_WITHIN_S.get(getattr(request, "op", "")), self._name):
            running = await self.start(python, AGENT)
            return await Conversation(running, name=self._name, target=self._target).ask(request, body, on_event)

    async def _find_python(self) -> str:
        """The first Python that is there. It is looked for before a body is read, which could not be read twice."""
        if self._python is None:
            for python in self._pythons:
                async with within(SOON_S, self._name):
                    found = await self.run([python, "-c", ""])
                if found.code not in (NOT_FOUND, NOT_RUNNABLE):
                    self._python = python
                    break
            else:
                raise DeviceError(
                    f"{self._name} has no Python: there is no {' and no '.join(self._pythons)}.",
                    hint=f"Install Python 3.11 or newer there, then: edgebert devices setup {self._target}",
                )
        return self._python

    async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
        """As `Channel.run`."""
        return await self.run_with(arguments, None, on_line=on_line)

    async def run_with(
        self, arguments: Sequence[str], body: AsyncIterator[bytes] | None, *, on_line: Callable[[str], None] | None = None
    ) -> Completed:
        """Runs a command with something on its standard input.

        Raises:
            DeviceLost: the connection ended before it did.
        """
        running = await self.start(arguments[0], arguments[1:])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(running, body))
                out = group.create_task(read_lines(running, on_line))
                err = group.create_task(read_tail(running))
            ended = await running.wait()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            await running.end()
        if ended.lost:
            raise DeviceLost(f"The connection to {self._name} was cut.", hint=GOES_ON)
        return completed(ended, out.result(), err.result())

    async def put(self, source: Path, target: str) -> None:
        """As `Channel.put`. Needs a Python there, and no more."""
        size = source.stat().st_size
        python = await self._find_python()
        done = await self.run_with([python, "-c", TAKE_FILE, target, str(size)], _parts(source))
        if done.code:
            why = printable((done.err.strip().splitlines() or [f"exit code {done.code}"])[-1])
            raise DeviceError(
                f"{source.name} could not be copied to {self._name}: {why}.", hint="Is there room, and may you write there?"
            )


async def _feed(running: Running, body: AsyncIterator[bytes] | None) -> None:
    try:
        if body is not None:
            async for part in body:
                await running.write(part)
        await running.end_input()
    except StreamClosed:
        return


async def _parts(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while part := file.read(PART_BYTES):
            yield part


class Counted:
    """Counts the lines of the protocol in both directions, as they are written; contents are counted where they are read."""

    def __init__(self, channel: Channel, sent: Sent) -> None:
        self._channel, self._sent = channel, sent

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """As `Channel.ask`."""

        def heard(event: Note | Advance | Received) -> None:
            self._count(event)
            if on_event:
                on_event(event)

        self._count(request)
        value = await self._channel.ask(request, body=body, on_event=heard)
        self._sent.protocol_bytes += len(json.dumps({"event": "result", "value": value}, separators=(",", ":")).encode()) + 1
        return value

    def _count(self, message: BaseModel) -> None:
        self._sent.protocol_bytes += len(message.model_dump_json().encode()) + 1
