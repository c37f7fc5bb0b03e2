"""Device: where an artifact goes. Transport only: what is said over it is in edgebert.devices.agent.protocol."""

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
    """A command that ran to its end on a device."""

    code: int
    out: str
    err: str


class Channel(Protocol):
    """An open way to one device."""

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """Lets the agent there answer one request; returns the value of its result.

        Args:
            body: what follows the request on the agent's standard input.
            on_event: is told every event before the last.

        Raises:
            EdgebertError: of the class that the agent names.
            DeviceLost: the connection, or the agent, ended before there was an answer.
            DeviceError: there is no edgebert there, or another protocol, or no answer in time.
        """

    async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
        """Runs one command there, each argument as it is. A program that begins with `~/` counts from the home of the user.

        Args:
            on_line: is told every line of its standard output, without the end of the line.

        Returns:
            Exit code 127 where there is no such program.

        Raises:
            DeviceLost: the connection ended before it did.
        """

    async def put(self, source: Path, target: str) -> None:
        """Copies one file there; a relative target counts from the home of the user. Folders above it are made."""


class Device(ABC):
    """Where an artifact goes."""

    name: str
    """What the user calls it."""
    root: str
    """Folder there that holds its slots."""
    labels: Mapping[str, str]
    python: str | None = None
    """The interpreter that the user named for it, and looks after."""

    @property
    def target(self) -> str:
        """What names it on the command line."""
        return self.name

    @property
    def machine(self) -> str:
        """Equal for devices that are one machine, which must not be measured at the same time. Empty: this one."""
        return ""

    @property
    def where(self) -> str:
        """Equal for devices that are reached in the same way."""
        return ""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Channel]:
        """Opens a way to it.

        Raises:
            DeviceError: it cannot be reached, or is not the one that it says it is.
        """
