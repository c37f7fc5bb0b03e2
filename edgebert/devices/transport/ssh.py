"""SshDevice: a host with Python and an SSH server. Nothing of edgebert runs there between two commands."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from edgebert.devices.transport.address import SshAddress
from edgebert.devices.transport.base import Channel, Device
from edgebert.devices.transport.channel import CommandChannel
from edgebert.devices.transport.conversation import cut
from edgebert.devices.transport.running import Ended, Running, StreamClosed
from edgebert.devices.transport.ssh_connection import CLOSES_WITHIN_S, connect, machine_of
from edgebert.errors import DeviceError

PART_BYTES = 1 << 16


class SshDevice(Device):
    """A host that is reached by SSH.

    Args:
        python: runs the agent there; by default the environment that `devices setup` makes, else `python3`.
        identity: file of the private key, where ~/.ssh/config and the agent do not know it.
    """

    def __init__(
        self,
        name: str,
        address: SshAddress,
        *,
        labels: Mapping[str, str] | None = None,
        target: str | None = None,
        python: str | None = None,
        identity: Path | None = None,
    ) -> None:
        self.name, self.root, self.labels, self.address = name, address.root, dict(labels or {}), address
        root = address.root if address.root.startswith("/") else f"~/{address.root}"
        self.pythons = (python,) if python else (f"{root}/venv/bin/python", "python3")
        self.python = python
        self._target, self._identity = target, identity
        self._machine: str | None = None

    @property
    def machine(self) -> str:
        """See `Device.machine`. Reading ~/.ssh/config blocks (a `Match exec` may take a while), so it is asked for before any
        connection is open.
        """
        if self._machine is None:
            self._machine = machine_of(self.address)
        return self._machine

    @property
    def where(self) -> str:
        """User, host and port as written."""
        return f"{self.address}:{self.address.port or ''}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Logs in."""
        async with AsyncExitStack() as stack:
            connection = await connect(self.address, self._identity, stack)
            yield SshChannel(self.name, self.target, self.pythons, connection)


class SshChannel(CommandChannel):
    """Runs commands over one connection."""

    def __init__(self, name: str, target: str, pythons: Sequence[str], connection: Any) -> None:
        super().__init__(name=name, target=target, pythons=pythons)
        self._connection = connection

    async def start(self, program: str, arguments: Sequence[str]) -> Running:
        """Starts a command; every part of it is quoted for the shell there."""
        import asyncssh

        try:
            process = await self._connection.create_process(
                command_line(program, arguments), encoding=None, request_pty=False, env=(), send_env=()
            )
        except asyncssh.ChannelOpenError as error:
            if self._connection.is_closed() or "connection closed" in str(error.reason).lower():
                raise cut(self._name) from error
            raise DeviceError(f"{self._name} does not let a command be started: {error.reason}.") from error
        except (OSError, asyncssh.Error) as error:
            raise cut(self._name) from error
        return SshRunning(process)


def command_line(program: str, arguments: Sequence[str]) -> str:
    """A command for a shell. `~/` before the program stays unquoted, so that the shell replaces it by the home."""
    home, inner = ("~/", program[2:]) if program.startswith("~/") else ("", program)
    return " ".join([home + shlex.quote(inner), *map(shlex.quote, arguments)])


class SshRunning:
    """A process on the device. The methods are those of `Running`."""

    def __init__(self, process: Any) -> None:
        self._process = process

    async def write(self, data: bytes) -> None:
        import asyncssh

        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise StreamClosed from error

    async def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.write_eof()

    async def read(self) -> bytes:
        return await self._read(self._process.stdout)

    async def read_error(self) -> bytes:
        return await self._read(self._process.stderr)

    async def _read(self, stream: Any) -> bytes:
        import asyncssh

        try:
            return bytes(await stream.read(PART_BYTES))
        except (OSError, asyncssh.Error):  # `wait` reports a lost connection
            return b""

    async def wait(self) -> Ended:
        import asyncssh

        with contextlib.suppress(OSError, asyncssh.Error):
            await self._process.wait_closed()
        return Ended(self._process.returncode)

    async def end(self) -> None:
        """Asks it to end and closes its streams. If the server passes no signals, it ends for lack of a reader."""
        if self._process.is_closing() and self._process.returncode is not None:
            return
        with contextlib.suppress(OSError):
            self._process.terminate()
            self._process.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSES_WITHIN_S):
                await self.wait()
