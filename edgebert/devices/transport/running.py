"""Running: the seam to a command under way on a device, and the reading of its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edgebert.errors import DeviceError

MAX_OUTPUT_BYTES = 64 << 20
"""Largest output that is read; an answer with a report has a few megabytes."""
TAIL_BYTES = 16 << 10
NOT_FOUND = 127
"""Exit code of shells for a missing program."""
NOT_RUNNABLE = 126
"""Exit code of shells for a program that may not be run."""


class StreamClosed(Exception):
    """The command no longer reads its standard input."""


class NotStarted(Exception):
    """The program does not exist or may not be run.

    Args:
        code: exit code by which a shell reports it.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None
    """Exit code; None if the connection ended before the command did."""

    def __str__(self) -> str:
        if self.code is None:
            return "the connection was cut"
        return f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class Running(Protocol):
    """A command under way."""

    async def write(self, data: bytes) -> None:
        """Writes to its standard input; returns when more can be written.

        Raises:
            StreamClosed: the command no longer reads it.
        """

    async def end_input(self) -> None:
        """Closes its standard input."""

    async def read(self) -> bytes:
        """The next part of its standard output; empty at the end."""

    async def read_error(self) -> bytes:
        """The next part of its standard error; empty at the end."""

    async def wait(self) -> Ended:
        """Waits for its end."""

    async def end(self) -> None:
        """Ends it, unless it has ended."""


class Lines:
    """Cuts a stream into lines; keeps one unfinished line at most."""

    def __init__(self, limit_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._rest = bytearray()
        self._left = limit_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without line ends.

        Raises:
            DeviceError: the stream is longer than any answer.
        """
        self._left -= len(data)
        if self._left < 0:
            raise DeviceError("The device sends more than any answer of edgebert has, so it was not read to the end.")
        if b"\n" not in data:
            self._rest += data
            return []
        first, *rest = data.split(b"\n")
        lines = [bytes(self._rest + first), *rest[:-1]]
        self._rest = bytearray(rest[-1])
        return lines

    @property
    def rest(self) -> bytes:
        """The unfinished last line."""
        return bytes(self._rest)


async def read_tail(running: Running) -> str:
    """Reads standard error to its end; returns its last `TAIL_BYTES`."""
    tail = b""
    while data := await running.read_error():
        tail = (tail + data)[-TAIL_BYTES:]
    return tail.decode(errors="replace")


async def read_lines(running: Running, on_line: Callable[[str], None] | None) -> str:
    """Reads standard output to its end, and calls `on_line` with every line on the way.

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
