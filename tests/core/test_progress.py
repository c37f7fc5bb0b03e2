"""Progress, of one step or of several things at once: lines where there is no terminal, bars where there is one, nothing when
asked, and honest time left."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgebert.core import progress
from edgebert.core.packages import quiet_libraries
from edgebert.core.parallel_progress import open_parallel_progress
from edgebert.core.progress import Live, Plain, Progress, Silent, format_seconds, progress_for


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that progress reads."""
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found)
    return found


def test_plain_prints_a_line_when_a_step_starts_and_when_it_ends(clock: Clock) -> None:
    stream = io.StringIO()
    with Plain(stream).step("train", 10):
        clock.now += 75
    assert stream.getvalue() == "train ...\ntrain: done in 1 min 15 s\n"


def test_plain_prints_the_time_left_every_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    with Plain(stream).step("train", 100) as step:
        for _ in range(25):
            clock.now += 1
            step.advance()
    assert stream.getvalue().splitlines()[1:-1] == [
        "  train: 10%, about 1 min 30 s left",
        "  train: 20%, about 1 min 20 s left",
    ]


def test_plain_does_not_count_an_earlier_runs_work_as_speed(clock: Clock) -> None:
    stream = io.StringIO()
    with Plain(stream).step("train", 100) as step:
        step.skip_to(90)
        clock.now += 10
        step.advance()
    assert "  train: 91%, about 1 min 30 s left" in stream.getvalue()


def test_plain_prints_the_time_that_passed_when_it_does_not_know_the_total(clock: Clock) -> None:
    stream = io.StringIO()
    with Plain(stream).step("read") as step:
        clock.now += 11
        step.advance()
    assert "  read: 11 s" in stream.getvalue()


def test_plain_does_not_say_done_when_a_step_fails() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError), Plain(stream).step("train"):
        raise KeyError
    assert stream.getvalue() == "train ...\n"


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Silent()
    display.note("a line")
    with display.step("train", 10) as step:
        step.skip_to(3)
        step.advance(2)
    assert capsys.readouterr() == ("", "")


def test_live_does_not_count_an_earlier_runs_work_as_speed(clock: Clock) -> None:
    stream = Terminal()
    with Live(Console(file=stream, force_terminal=True, width=100)).step("train", 100) as step:
        step.skip_to(90)
        clock.now += 10
        step.advance()
    assert "91%, about 1 min 30 s left" in stream.getvalue()


def test_live_shows_a_bar_and_leaves_one_line(clock: Clock) -> None:
    stream = Terminal()
    display = Live(Console(file=stream, force_terminal=True, width=100))
    with display.step("train", 4) as step:
        step.skip_to(1)
        step.advance(2)
        clock.now += 3
    display.note("[not markup]")
    shown = stream.getvalue()
    assert "75%, about" in shown
    assert "train: done in 3.0 s" in shown
    assert "[not markup]" in shown


def test_progress_for_chooses_the_display_that_suits_the_stream() -> None:
    assert isinstance(progress_for(io.StringIO(), quiet=True), Silent)
    assert isinstance(progress_for(io.StringIO()), Plain)
    assert isinstance(progress_for(Terminal()), Live)


def test_progress_reaches_standard_error_while_libraries_are_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    display: Progress = progress_for()
    with quiet_libraries(), display.step("quantize"):
        sys.stdout.write("a library's banner")
        sys.stderr.write("a library's bar")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("quantize ...\nquantize: done in")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_format_seconds_writes_the_two_largest_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@given(st.floats(min_value=0, max_value=1e6))
def test_format_seconds_never_writes_sixty_of_a_unit(seconds: float) -> None:
    assert "60 s" not in format_seconds(seconds)
    assert not format_seconds(seconds).endswith("60 min")


def test_compress_writes_its_progress_to_standard_error_alone(finished: Path, tmp_path: Path) -> None:
    import shutil

    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.run import compress
    from edgebert.core.store import ArtifactStore

    stream = io.StringIO()
    store = ArtifactStore(Path(shutil.copytree(finished / "store", tmp_path / "store")))
    file = load_recipe(str(finished / "recipe.yaml"))
    compress(file, store=store, out=tmp_path / "out", progress=Plain(stream))
    lines = stream.getvalue().splitlines()
    assert "int8-dynamic: found in the store" in lines
    assert lines.index("measure latency ...") < lines.index("write the bundle ...")


def test_parallel_lines_begin_with_the_name_and_come_with_each_phase_and_every_ten_seconds(clock: Clock) -> None:
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


def test_quiet_parallel_progress_prints_nothing() -> None:
    stream = io.StringIO()
    with open_parallel_progress(stream, quiet=True) as opened:
        opened.line("kitchen").show("sent")
        opened.line("kitchen").note("done")
    assert stream.getvalue() == ""


def test_parallel_progress_on_a_terminal_shows_a_line_for_each_and_keeps_what_was_noted() -> None:
    stream = Terminal()
    with open_parallel_progress(stream) as opened:
        kitchen, attic = opened.line("[red]kitchen"), opened.line("attic")
        kitchen.show("sent", "12 of 23 MB", 0.5)
        attic.show("installing")
        attic.note("[bold]noted")
    shown = stream.getvalue()
    for words in ("[red]kitchen", "sent 12 of 23 MB", "attic", "installing", "attic: [bold]noted"):
        assert words in shown


def test_work_goes_on_when_the_reader_of_its_progress_goes_away() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream, open_parallel_progress(stream) as opened:
        with Plain(stream).step("count", 2) as step:
            step.advance()
        opened.line("kitchen").note("one")
        opened.line("kitchen").note("two")
