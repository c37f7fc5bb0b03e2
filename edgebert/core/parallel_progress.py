"""Progress of several things at once: a line with a bar for each on a terminal, plain lines with a name elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TextIO

from edgebert.core.progress import PLAIN_INTERVAL_S, open_display, print_line

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

MOST_SHOWN = 0.999
"""Largest share that a bar shows before the end: a bar that was whole once stops its clock."""


class ProgressLine(Protocol):
    """One of the things under way."""

    def show(self, phase: str, amount: str = "", share: float | None = None) -> None:
        """Shows what it does now.

        Args:
            phase: what, `sent`.
            amount: how much of it, `12 of 23 MB`.
            share: the same as a part of 1.
        """

    def note(self, line: str) -> None:
        """Prints one line that stays."""

    def end(self, line: str) -> None:
        """Prints how it ended."""


class ParallelProgress(Protocol):
    """All things under way."""

    def line(self, name: str) -> ProgressLine:
        """Opens a line; names need not differ."""


class _SilentLine:
    def show(self, phase: str, amount: str = "", share: float | None = None) -> None:
        pass

    def note(self, line: str) -> None:
        pass

    def end(self, line: str) -> None:
        pass


class SilentParallelProgress:
    """Prints nothing (`--quiet`)."""

    def line(self, name: str) -> ProgressLine:
        """Opens a line that shows nothing."""
        return _SilentLine()


class _PlainLine:
    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._phase: str | None = None
        self._last: str | None = None
        self._printed = 0.0

    def show(self, phase: str, amount: str = "", share: float | None = None) -> None:
        """Prints a line when the phase changes, one every ten seconds, and one when it is whole."""
        now, line = time.monotonic(), f"{phase} {amount}".rstrip()
        whole = share is not None and share >= 1
        if line != self._last and (phase != self._phase or whole or now - self._printed >= PLAIN_INTERVAL_S):
            self._phase, self._last, self._printed = phase, line, now
            self.note(line)

    def note(self, line: str) -> None:
        print_line(self._stream, f"{self._name}: {line}")

    def end(self, line: str) -> None:
        self.note(line)


class PlainParallelProgress:
    """Lines that begin with the name."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, name: str) -> ProgressLine:
        """Opens a line that prints."""
        return _PlainLine(self._stream, name)


class _LiveLine:
    def __init__(self, display: Display, task: TaskID, name: str) -> None:
        self._display, self._task, self._name = display, task, name

    def show(self, phase: str, amount: str = "", share: float | None = None) -> None:
        self._display.start_task(self._task)  # the time that it waited does not count
        completed, total = min(share or 0.0, MOST_SHOWN), None if share is None else 1.0
        self._display.update(self._task, state=f"{phase} {amount}".rstrip(), total=total, completed=completed)

    def note(self, line: str) -> None:
        self._display.console.print(f"{self._name}: {line}", highlight=False, markup=False)

    def end(self, line: str) -> None:
        self.note(line)
        self._display.update(self._task, state=line, total=1.0, completed=1.0)
        self._display.stop_task(self._task)


class LiveParallelProgress:
    """A line with a bar for each, on a terminal."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def line(self, name: str) -> ProgressLine:
        """Opens a line below the others."""
        return _LiveLine(self._display, self._display.add_task(name, start=False, total=None, state="waits"), name)


@contextlib.contextmanager
def open_parallel_progress(stream: TextIO | None = None, *, quiet: bool = False) -> Iterator[ParallelProgress]:
    """The display that suits the stream (standard error by default), as long as it is open."""
    stream = stream or sys.stderr
    if quiet:
        yield SilentParallelProgress()
    elif not stream.isatty():
        yield PlainParallelProgress(stream)
    else:
        from rich.console import Console

        with open_display(Console(file=stream)) as display:
            yield LiveParallelProgress(display)
