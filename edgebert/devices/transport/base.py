"""The seam of transport: a device that can be connected to, and a channel that runs commands and agents there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from edgebert.devices.agent.protocol import Advance, Note, Received

OnEvent = Callable[[Note | Advance | Received], None]


@dataclass(frozen=True)
class Completed:
    """Result of a command on a device."""

    code: int
    out: str
    err: str


class Channel(Protocol):
    """An open connection to one device."""

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """Has an agent on the device answer one request; returns the value of its result.

        Args:
            body: bytes that follow the request on the agent's standard input.
            on_event: called with every event before the last.

        Raises:
            EdgebertError: the error that the agent reports, of the same class.
            DeviceLost: the connection or the agent ended before there was an answer.
            DeviceError: there is no edgebert there, or another protocol, or no answer in time.
        """

    async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
        """Runs one command on the device; no shell changes its arguments. `~/` at its beginning is the home of the user there.

        Args:
            on_line: called with every line of its standard output, without the line end.

        Returns:
            Exit code 127 where there is no such program.

        Raises:
            DeviceLost: the connection ended before the command did.
        """

    async def put(self, source: Path, target: str) -> None:
        """Copies one file to the device and makes the folders above it; a relative target is in the home of the user there."""


class Device(ABC):
    """A folder on some machine that bundles are shipped to."""

    name: str
    """Name that the user gave it."""
    root: str
    """Folder on the device that holds its slots."""
    labels: Mapping[str, str]
    python: str | None = None
    """Interpreter that the user named for the device, and looks after."""
    _target: str | None = None

    @property
    def target(self) -> str:
        """Words that name the device on the command line."""
        return self._target or self.name

    @property
    def machine(self) -> str:
        """Equal for devices on one machine, which must not be measured at the same time. Empty for this machine."""
        return ""

    @property
    def where(self) -> str:
        """Equal for devices that are reached in the same way."""
        return ""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Channel]:
        """Connects to the device.

        Raises:
            DeviceError: it cannot be reached, or its host key is wrong.
        """
