"""Running: a command that runs on a device, and its three streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edgebert.devices.transport.base import Completed
from edgebert.errors import DeviceError

MAX_OUTPUT_BYTES = 64 << 20
"""A report is a few megabytes; more than this is no answer."""
TAIL_BYTES = 16 << 10
NOT_FOUND = 127
"""Exit code of a program that is not there, as shells give it."""


class StreamClosed(Exception):
    """Nobody reads what is written any more."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None
    """None where the connection ended first."""

    @property
    def lost(self) -> bool:
        """Whether the connection ended before the command did, as far as is known here."""
        return self.code is None

    def __str__(self) -> str:
        if self.code is None:
            return "the connection was cut"
        return f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class Running(Protocol):
    """A command under way."""

    async def write(self, data: bytes) -> None:
        """Writes to its standard input; returns when there is room for more.

        Raises:
            StreamClosed: it does not read any more.
        """

    async def end_input(self) -> None:
        """Says that nothing follows on its standard input."""

    async def read(self) -> bytes:
        """The next part of its standard output; empty at the end."""

    async def read_error(self) -> bytes:
        """The next part of its standard error; empty at the end."""

    async def wait(self) -> Ended:
        """Waits for its end."""

    async def end(self) -> None:
        """Ends it, wherever it is; nothing happens where it has ended."""


class Lines:
    """Cuts a stream into lines. Holds no more than one unfinished line."""

    def __init__(self, limit_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._rest = bytearray()
        self._left = limit_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends.

        Raises:
            DeviceError: there is more than any answer has.
        """
        self._left -= len(data)
        if self._left < 0:
            raise DeviceError("It sends more than any answer of edgebert has, so it was not read to the end.")
        if b"\n" not in data:
            self._rest += data
            return []
        first, *rest = data.split(b"\n")
        lines = [bytes(self._rest + first), *rest[:-1]]
        self._rest = bytearray(rest[-1])
        return lines

    @property
    def rest(self) -> bytes:
        """What follows the last end of a line."""
        return bytes(self._rest)


async def read_tail(running: Running) -> str:
    """Reads standard error to its end; what is said last."""
    tail = b""
    while data := await running.read_error():
        tail = (tail + data)[-TAIL_BYTES:]
    return tail.decode(errors="replace")


async def read_lines(running: Running, on_line: Callable[[str], None] | None) -> str:
    """Reads standard output to its end and tells every line on the way.

    Raises:
        DeviceError: there is too much of it.
    """
    lines, parts = Lines(), []
    while data := await running.read():
        parts.append(data)
        for line in lines.feed(data):
            if on_line:
                on_line(line.decode(errors="replace").rstrip("\r"))
    if lines.rest and on_line:
        on_line(lines.rest.decode(errors="replace"))
    return b"".join(parts).decode(errors="replace")


def completed(ended: Ended, out: str, err: str) -> Completed:
    """The result of a command that ended by itself."""
    assert ended.code is not None
    return Completed(ended.code, out, err)
