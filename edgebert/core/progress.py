"""Progress of long work: bars with the time left on a terminal, plain lines elsewhere, nothing when asked to be quiet.

Progress goes to standard error; standard output belongs to the result.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Display

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines about the same work."""


class ProgressStep(Protocol):
    """One long step under way."""

    def advance(self, count: float = 1) -> None:
        """Adds `count` units of work that are done."""

    def skip_to(self, count: float) -> None:
        """Sets the units that an earlier run did; they do not count for the time left."""


class Progress(Protocol):
    """Where a run reports what it does."""

    def note(self, line: str) -> None:
        """Prints one line that stays."""

    def step(self, title: str, total: float | None = None) -> contextlib.AbstractContextManager[ProgressStep]:
        """Opens a step of `total` units; a step without a total shows only the time that passed."""


class _SilentStep:
    def advance(self, count: float = 1) -> None:
        pass

    def skip_to(self, count: float) -> None:
        pass


class Silent:
    """Prints nothing (`--quiet`)."""

    def note(self, line: str) -> None:
        """Drops the line."""

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step that shows nothing."""
        yield _SilentStep()


class _CountedStep:
    """Counts units of work and passes the state of the step (`10%, about 1 min 30 s left`) and the count to `show`.

    The state is empty while the time left cannot be estimated.
    """

    def __init__(self, total: float | None, show: Callable[[str, float], None]) -> None:
        self._total, self._show = total, show
        self._started = time.monotonic()
        self._done = self._skipped = 0.0

    def advance(self, count: float = 1) -> None:
        self._done += count
        self._show(self._state(), self._done)

    def skip_to(self, count: float) -> None:
        self._done = self._skipped = count
        self._show(self._state(), self._done)

    def _state(self) -> str:
        worked = self._done - self._skipped
        if not self._total or worked <= 0:
            return ""
        left = (time.monotonic() - self._started) / worked * (self._total - self._done)
        return f"{self._done / self._total:.0%}, about {format_seconds(left)} left"


class Plain:
    """One line when a step starts, one every ten seconds, one when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, line: str) -> None:
        """Prints the line."""
        print_line(self._stream, line)

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step that prints its title now and its duration at the end."""
        started = printed = time.monotonic()

        def show(state: str, done: float) -> None:
            nonlocal printed
            now = time.monotonic()
            if now - printed >= PLAIN_INTERVAL_S:
                printed = now
                self.note(f"  {title}: {state or format_seconds(now - started)}")

        self.note(f"{title} ...")
        yield _CountedStep(total, show)
        self.note(f"{title}: done in {format_seconds(time.monotonic() - started)}")


class Live:
    """A bar for the step under way, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, line: str) -> None:
        """Prints the line above the bar."""
        self._console.print(line, highlight=False, markup=False)

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step with a bar that leaves one line when it ends."""
        started = time.monotonic()
        with open_display(self._console) as display:
            task = display.add_task(title, total=total, state="")
            yield _CountedStep(total, lambda state, done: display.update(task, state=state, completed=done))
        self.note(f"{title}: done in {format_seconds(time.monotonic() - started)}")


def open_display(console: Console) -> Display:
    """A line for each task: its name, a bar, its field `state`, and the time since it started. Closing it removes the lines."""
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=24),
        bars.TextColumn("{task.fields[state]}", markup=False),
        bars.TimeElapsedColumn(),
    )
    # Twice a second: what is measured on this machine must not pay for a bar.
    return bars.Progress(*columns, console=console, transient=True, refresh_per_second=2)


def progress_for(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """The display that suits the stream (standard error by default)."""
    if quiet:
        return Silent()
    # Held here: libraries are silenced by redirecting sys.stderr, and progress must still reach the terminal.
    stream = stream or sys.stderr
    if not stream.isatty():
        return Plain(stream)
    from rich.console import Console

    return Live(Console(file=stream))


def print_line(stream: TextIO, line: str) -> None:
    """Prints a line. The work goes on where nobody reads it any more (`2>&1 | head -1`), or it cannot be written."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
