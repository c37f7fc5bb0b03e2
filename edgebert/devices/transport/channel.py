"""CommandChannel: everything that a channel does, over commands that its subclass starts."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgebert.devices.transport.base import Completed, OnEvent
from edgebert.devices.transport.conversation import (
    ANSWERS_WITHIN_S,
    SOON_S,
    Conversation,
    cut,
    explain_silence,
    last_line,
    within,
)
from edgebert.devices.transport.running import (
    NOT_FOUND,
    NOT_RUNNABLE,
    Ended,
    NotStarted,
    Running,
    StreamClosed,
    read_lines,
    read_tail,
)
from edgebert.errors import DeviceError

AGENT = ("-P", "-m", "edgebert.slots.agent")
"""The agent by its former name, for devices of version 0.1; `former_names.py` forwards it to `devices/agent/agent.py`.
-P keeps it from importing modules of the folder where it starts: a home may hold a random.py."""
PART_BYTES = 1 << 16

# Writes standard input into a file beside the target and then renames it. Runs on any Python 3.
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
    """A channel to a device where commands can be started. The methods are those of `Channel`.

    Args:
        name: name of the device, for messages.
        target: words that name it on the command line.
        pythons: interpreters that may have edgebert; the first that exists is used.
    """

    def __init__(self, *, name: str, target: str, pythons: Sequence[str]) -> None:
        self._name, self._target = name, target
        self._pythons = tuple(pythons)
        self._python: str | None = None

    @abstractmethod
    async def start(self, program: str, arguments: Sequence[str]) -> Running:
        """Starts a command. `~/` at the beginning of the program is the home of the user there.

        Raises:
            DeviceLost: the connection has ended.
            NotStarted: a channel without a shell found no such program. A shell ends with that exit code instead.
        """

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        python = await self._find_python()
        async with within(ANSWERS_WITHIN_S.get(getattr(request, "op", "")), self._name):
            try:
                running = await self.start(python, AGENT)
            except NotStarted as error:
                raise explain_silence(Ended(error.code), "", name=self._name, target=self._target) from error
            return await Conversation(running, name=self._name, target=self._target).ask(request, body, on_event)

    async def _find_python(self) -> str:
        """The first Python that exists. It is searched before a body is read, which could not be read twice."""
        if self._python is None:
            for python in self._pythons:
                async with within(SOON_S, self._name):
                    done = await self.run([python, "-c", ""])
                if done.code not in (NOT_FOUND, NOT_RUNNABLE):
                    self._python = python
                    break
            else:
                raise DeviceError(
                    f"{self._name} has no Python: there is no {' and no '.join(self._pythons)}.",
                    hint=f"Install Python 3.11 or newer there, then: edgebert devices setup {self._target}",
                )
        return self._python

    async def run(
        self,
        arguments: Sequence[str],
        *,
        on_line: Callable[[str], None] | None = None,
        body: AsyncIterator[bytes] | None = None,
    ) -> Completed:
        """See `Channel.run`; `body` is sent to the command's standard input."""
        try:
            running = await self.start(arguments[0], arguments[1:])
        except NotStarted as error:
            return Completed(error.code, "", "")
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
        if ended.code is None:
            raise cut(self._name)
        return Completed(ended.code, out.result(), err.result())

    async def put(self, source: Path, target: str) -> None:
        """See `Channel.put`. Needs only a Python there."""
        size = source.stat().st_size
        python = await self._find_python()
        done = await self.run([python, "-c", TAKE_FILE, target, str(size)], body=_parts(source))
        if done.code:
            raise DeviceError(
                f"{source.name} could not be copied to {self._name}: {last_line(done)}.",
                hint="Is there room, and may you write there?",
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
