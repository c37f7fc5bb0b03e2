"""LocalDevice: a folder of this machine, filled by an agent that is a process here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from edgebert.devices.transport.base import Channel, Device
from edgebert.devices.transport.channel import CommandChannel
from edgebert.devices.transport.running import NOT_FOUND, NOT_RUNNABLE, Ended, NotStarted, Running, StreamClosed
from edgebert.errors import DeviceError

PART_BYTES = 1 << 16
ENDS_WITHIN_S = 5.0
"""How long a process may take to end when asked to, before it is killed."""


class LocalDevice(Device):
    """A folder of this machine.

    Args:
        folder: absolute path.
        python: runs the agent; by default the environment that `devices setup --python` made there, else this interpreter.
        environment: variables of the agent that differ from this process's.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        labels: Mapping[str, str] | None = None,
        target: str | None = None,
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.root, self.labels = name, str(folder), dict(labels or {})
        self.pythons = (python,) if python else (str(folder / "venv" / "bin" / "python"), sys.executable)
        self.python = python
        self._target, self._environment = target, dict(environment or {})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """A channel to this machine; there is nothing to connect to."""
        yield LocalChannel(self.name, self.target, self.pythons, self._environment)


class LocalChannel(CommandChannel):
    """Runs commands of this machine."""

    def __init__(self, name: str, target: str, pythons: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(name=name, target=target, pythons=pythons)
        self._environment = {**os.environ, **environment}

    async def start(self, program: str, arguments: Sequence[str]) -> Running:
        """Starts a process in a session of its own, so that Ctrl-C reaches this process alone, which ends the other."""
        home = self._environment.get("HOME") or str(Path.home())
        if program.startswith("~/"):
            program = f"{home}/{program[2:]}"
        try:
            return LocalRunning(
                await asyncio.create_subprocess_exec(
                    program,
                    *arguments,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                    env=self._environment,
                )
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotStarted(NOT_FOUND) from error
        except PermissionError as error:
            raise NotStarted(NOT_RUNNABLE) from error
        except OSError as error:
            raise DeviceError(f"{program} cannot be started: {error.strerror}.") from error


class LocalRunning:
    """A process of this machine. The methods are those of `Running`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin and process.stdout and process.stderr
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr

    async def write(self, data: bytes) -> None:
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except OSError as error:
            raise StreamClosed from error

    async def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
            await self._stdin.wait_closed()

    async def read(self) -> bytes:
        return await self._stdout.read(PART_BYTES)

    async def read_error(self) -> bytes:
        return await self._stderr.read(PART_BYTES)

    async def wait(self) -> Ended:
        return Ended(await self._process.wait())

    async def end(self) -> None:
        """Asks the whole session to end, then kills it. Its output is read to the end, or the end would not be seen."""
        try:
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
            await self._drained()
        finally:
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
        await self._drained()

    async def _drained(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN_S):
                await asyncio.gather(_read_away(self._stdout), _read_away(self._stderr), self._process.wait())

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def _read_away(stream: asyncio.StreamReader) -> None:
    while await stream.read(PART_BYTES):
        pass
