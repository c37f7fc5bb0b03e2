"""Wire: the agent's two ends of its connection. It reads requests from standard input and writes events to standard output,
where libraries can no longer print."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgebert.devices.agent.protocol import Advance, Note, Received, ReportedFailure, Result
from edgebert.errors import DeviceError, DeviceLost

if TYPE_CHECKING:
    from edgebert.core.progress import ProgressStep

BLOCK = 1 << 20
LONGEST_REQUEST = 16 << 20
"""Bytes of a request's line."""
LOOK_MS = 1000
INTERVAL_S = 0.25
"""Seconds between two lines of one step: more lines would only be traffic."""

Event = Note | Advance | Received | Result | ReportedFailure


class StandardInput:
    """Reads a line, then bytes, and never waits for more than it hands out."""

    def __init__(self, handle: int = 0) -> None:
        self._handle, self._rest = handle, b""

    def line(self) -> bytes:
        """The line of the request.

        Raises:
            DeviceError: it is longer than any request.
            DeviceLost: the input ends before the line does.
        """
        parts: list[bytes] = []
        length = 0
        while True:
            block = self._take(BLOCK)
            head, newline, rest = block.partition(b"\n")
            length += len(head)
            if length > LONGEST_REQUEST:
                raise DeviceError(f"The request is longer than {LONGEST_REQUEST / 1e6:.0f} MB.")
            parts.append(head)
            if newline:
                self._rest = rest
                return b"".join(parts)
            if not block:
                raise DeviceLost("The connection ended before the request did.", hint="Ask again.")

    def read(self, size: int) -> Iterator[bytes]:
        """Blocks of the next `size` bytes; fewer where the input ends."""
        while size > 0 and (block := self._take(min(size, BLOCK))):
            size -= len(block)
            yield block

    def goes_on(self) -> bool:
        """Whether more bytes are there at this moment."""
        if self._rest:
            return True
        if not select.select([self._handle], [], [], 0)[0]:
            return False
        self._rest = self._take(1)
        return bool(self._rest)

    def _take(self, most: int) -> bytes:
        if self._rest:
            block, self._rest = self._rest[:most], self._rest[most:]
            return block
        try:
            return os.read(self._handle, most)
        except ConnectionError:  # a socket's end may come as an error
            return b""


def open_output() -> Callable[[str], None]:
    """Returns the function that writes a line to the workstation. From now on standard output is standard error, so that
    nothing printed by a library gets among the events.

    If the workstation is gone, writing raises KeyboardInterrupt, as a signal to end would.
    """
    handle = os.dup(1)
    os.dup2(2, 1)

    def write(line: str) -> None:
        left = line.encode() + b"\n"
        try:
            while left:
                left = left[os.write(handle, left) :]
        except (BrokenPipeError, ConnectionResetError):
            raise KeyboardInterrupt from None

    _watch(handle)
    return write


def _watch(handle: int) -> None:
    """Ends this process, as SIGTERM does, when the workstation goes away while nothing is written: a trial takes minutes."""
    main, poll = threading.get_ident(), select.poll()
    poll.register(handle, 0)  # errors and hang-ups are always reported

    def look() -> None:
        while not poll.poll(LOOK_MS):
            pass
        signal.pthread_kill(main, signal.SIGTERM)  # the main thread alone handles signals; this one wakes it

    threading.Thread(target=look, daemon=True).start()


class EventLines:
    """Sends events as lines, each written at once. It is also an `edgebert.core.progress.Progress`.

    Args:
        write: takes one line; raises KeyboardInterrupt if the workstation is gone.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, event: Event) -> None:
        """Writes one event."""
        self._write(event.model_dump_json())

    def note(self, line: str) -> None:
        """Writes a line for the user."""
        self.send(Note(line=line))

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Writes the progress of a step: at its start, about four times a second, and at its end."""
        step = _EventStep(self.send, title, total)
        step.report()
        yield step
        step.report()


class _EventStep:
    def __init__(self, send: Callable[[Event], None], title: str, total: float | None) -> None:
        self._send, self._title, self._total = send, title, total
        self._done, self._reported = 0.0, time.monotonic()

    def advance(self, count: float = 1) -> None:
        self._done += count
        if time.monotonic() - self._reported >= INTERVAL_S:
            self.report()

    def skip_to(self, count: float) -> None:
        self._done = count

    def report(self) -> None:
        self._reported = time.monotonic()
        self._send(Advance(title=self._title, done=self._done, total=self._total))
