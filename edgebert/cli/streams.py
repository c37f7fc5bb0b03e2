"""Standard streams as a process may find them: closed, on a full disk, with a reader that left.

What goes to standard error must never decide how a command ends: there are messages and progress. A result that cannot be
written is a fault, and so is a text that is asked of a standard input that is closed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, NoReturn, cast

from edgebert.core.faults import FULL
from edgebert.errors import EnvironmentFault


class Unfailing:
    """A stream that drops what cannot be written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, or drops it."""
        try:
            return int(self._stream.write(text))
        except (OSError, ValueError):
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flushes what was written, or drops it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Sends what is still to come, and what the stream holds, nowhere."""
        with contextlib.suppress(OSError, ValueError):
            drop(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Watched:
    """A stream that remembers why it could not be written: the error alone does not say which file it is about."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Writes the text."""
        with self._watching():
            return int(self._stream.write(text))

    def flush(self) -> None:
        """Flushes what was written."""
        with self._watching():
            self._stream.flush()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ClosedInput:
    """A standard input that was closed before the process began."""

    closed = False
    encoding = "utf-8"

    def isatty(self) -> bool:
        """No terminal."""
        return False

    def fileno(self) -> int:
        """Number of the descriptor, which is /dev/null now."""
        return 0

    def close(self) -> None:
        """Does nothing."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise EnvironmentFault(
            "Standard input is closed, so nothing can be read from it.", hint="Give a file or arguments instead, or: < FILE"
        )

    read = readline = readlines = __iter__ = _refuse

    @property
    def buffer(self) -> NoReturn:
        """Raises EnvironmentFault."""
        self._refuse()


@contextlib.contextmanager
def guarded() -> Iterator[EnvironmentFault | None]:
    """Within it, standard error never fails, and no file that is opened gets the number of a standard stream.

    Yields the fault of a standard output that is closed; None where it is open.
    """
    before, closed = (sys.stdout, sys.stderr), sys.stdout is None
    _fill()
    if sys.stdin is None:
        sys.stdin = cast("Any", ClosedInput())
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - until the end
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the end
    sys.stdout, sys.stderr = cast("Any", Watched(sys.stdout)), cast("Any", Unfailing(sys.stderr))
    try:
        yield _no_output() if closed else None
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before[0] or sys.stdout, before[1] or sys.stderr


def _no_output() -> EnvironmentFault:
    return EnvironmentFault(
        "Standard output is closed, so there is nowhere to write a result.", hint="Send it to a file, or nowhere: > /dev/null"
    )


def _fill() -> None:
    """Opens /dev/null under the number of each standard stream that is closed; processes that are started inherit it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)


def drop(stream: IO[Any]) -> None:
    """Sends what is still to be written to a stream to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)


def reader_left() -> bool:
    """Whether standard output is a pipe whose reader has gone."""
    import select

    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call, or nothing that has a number
        return True


def output_fault() -> EnvironmentFault | None:
    """The fault of a standard output that could not be written, whose rest is dropped; None where it could."""
    error = getattr(sys.stdout, "failure", None)
    if error is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        drop(sys.stdout)
    reason = "the disk is full" if error.errno in FULL else error.strerror
    return EnvironmentFault(f"Standard output cannot be written: {reason}.", hint="Send the result somewhere else: > FILE")
