"""Progress of several things at once: a line for each on a terminal, lines that begin with the name elsewhere."""

from __future__ import annotations

import io
import os

import pytest

from edgebert.core import parallel_progress
from edgebert.core.parallel_progress import open_parallel_progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that moves when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that parallel read."""
    found = Clock()
    monkeypatch.setattr(parallel_progress.time, "monotonic", found)
    return found


def test_lines_begin_with_the_name_and_come_with_each_phase_and_every_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    with open_parallel_progress(stream) as opened:
        kitchen, attic = opened.line("kitchen"), opened.line("attic")
        for megabytes in range(1, 24):
            clock.now += 1
            kitchen.show("sent", f"{megabytes} of 23 MB", megabytes / 23)
        attic.show("connecting")
        kitchen.show("installing")
        attic.note("cannot be reached")
    assert stream.getvalue().splitlines() == [
        "kitchen: sent 1 of 23 MB",
        "kitchen: sent 11 of 23 MB",
        "kitchen: sent 21 of 23 MB",
        "kitchen: sent 23 of 23 MB",
        "attic: connecting",
        "kitchen: installing",
        "attic: cannot be reached",
    ]


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    with open_parallel_progress(stream, quiet=True) as opened:
        opened.line("kitchen").show("sent")
        opened.line("kitchen").note("done")
    assert stream.getvalue() == ""


def test_a_terminal_shows_a_line_for_each_and_keeps_what_was_noted() -> None:
    stream = Terminal()
    with open_parallel_progress(stream) as opened:
        kitchen, attic = opened.line("[red]kitchen"), opened.line("attic")
        kitchen.show("sent", "12 of 23 MB", 0.5)
        attic.show("installing")
        attic.note("[bold]noted")
    shown = stream.getvalue()
    for words in ("[red]kitchen", "sent 12 of 23 MB", "attic", "installing", "attic: [bold]noted"):
        assert words in shown


def test_the_work_goes_on_when_nobody_reads() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream, open_parallel_progress(stream) as opened:
        opened.line("kitchen").note("one")
        opened.line("kitchen").note("two")
