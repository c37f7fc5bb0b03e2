"""Progress for long work: a live Rich display on a terminal, plain lines elsewhere, nothing when asked to be quiet.

Progress goes to standard error; standard output belongs to the result.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_INTERVAL_S = 10.0


class ProgressStep(Protocol):
    """One long step under way."""

    def advance(self, count: float = 1) -> None:
        """Adds `count` units of work that are done."""

    def skip_to(self, count: float) -> None:
        """Says that `count` units were done by an earlier run; they do not count for the time left."""


class Progress(Protocol):
    """Where a run says what it does."""

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
    """Says nothing (`--quiet`)."""

    def note(self, line: str) -> None:
        """Drops the line."""

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step that shows nothing."""
        yield _SilentStep()


def say(stream: TextIO, line: str) -> None:
    """Prints a line. The work goes on where nobody reads it any more (`2>&1 | head -1`)."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _PlainStep:
    def __init__(self, stream: TextIO, title: str, total: float | None) -> None:
        self._stream, self._title, self._total = stream, title, total
        self._started = self._spoke = time.monotonic()
        self._done = self._skipped = 0.0

    def advance(self, count: float = 1) -> None:
        self._done += count
        if time.monotonic() - self._spoke >= PLAIN_INTERVAL_S:
            self._spoke = time.monotonic()
            say(self._stream, f"  {self._title}: {self._state()}")

    def skip_to(self, count: float) -> None:
        self._done = self._skipped = count

    def _state(self) -> str:
        elapsed = time.monotonic() - self._started
        worked = self._done - self._skipped
        if not self._total or worked <= 0:
            return format_seconds(elapsed)
        left = elapsed / worked * (self._total - self._done)
        return f"{self._done / self._total:.0%}, about {format_seconds(left)} left"


class Plain:
    """One line when a step starts, one every ten seconds, one when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, line: str) -> None:
        """Prints the line."""
        say(self._stream, line)

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step that prints its title now and its duration at the end."""
        started = time.monotonic()
        self.note(f"{title} ...")
        yield _PlainStep(self._stream, title, total)
        self.note(f"{title}: done in {format_seconds(time.monotonic() - started)}")


class Live:
    """Bars with the time left, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, line: str) -> None:
        """Prints the line above the bars."""
        self._console.print(line, highlight=False, markup=False)

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step with a bar that leaves one line when it ends."""
        from rich import progress as bars

        columns = (
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=30),
            bars.TaskProgressColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        )
        started = time.monotonic()
        # Twice a second: what is measured beside it must not pay for a spinner.
        with bars.Progress(*columns, console=self._console, transient=True, refresh_per_second=2) as display:
            yield _LiveStep(display, display.add_task(title, total=total))
        self.note(f"{title}: done in {format_seconds(time.monotonic() - started)}")


class _LiveStep:
    def __init__(self, display: object, task: object) -> None:
        self._display, self._task = display, task

    def advance(self, count: float = 1) -> None:
        self._display.advance(self._task, count)  # type: ignore[attr-defined]

    def skip_to(self, count: float) -> None:
        self._display.update(self._task, completed=count)  # type: ignore[attr-defined]


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


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
