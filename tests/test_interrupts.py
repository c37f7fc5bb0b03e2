"""Ctrl-C: remembered where a library swallows it, and told as what it is where a library makes another error of it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgebert import interrupts
from edgebert.errors import EXIT_INTERRUPTED, StageError
from edgebert.interrupts import Interruptible
from edgebert.progress import Silent


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Listens for one test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.listen()
    yield
    interrupts.listen()  # forgets
    signal.signal(signal.SIGINT, before)


def swallowed() -> None:
    """Ctrl-C in a library that takes it for a failure of its own."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def open_step() -> None:
    with Interruptible(Silent()).step("work"):
        pass


def within(act: Callable[[Any], None]) -> Callable[[], None]:
    """What happens inside of a step after a Ctrl-C was lost there."""

    def call() -> None:
        with Interruptible(Silent()).step("work", 3) as step:
            swallowed()
            act(step)

    return call


LIVELY = [
    open_step,
    lambda: Interruptible(Silent()).note("a line"),
    within(lambda step: step.advance()),
    within(lambda step: step.skip_to(2)),
    within(lambda step: None),
]


@pytest.mark.parametrize("alive", LIVELY, ids=["step", "note", "advance", "skip_to", "end of a step"])
def test_run_ends_at_its_next_sign_of_life(alive: Callable[[], None]) -> None:
    if alive in LIVELY[:2]:
        alive()
        swallowed()
    with pytest.raises(KeyboardInterrupt):
        alive()


def test_without_an_interrupt_progress_is_as_it_was() -> None:
    with Interruptible(Silent()).step("work", 2) as step:
        step.skip_to(1)
        step.advance()
    assert not interrupts.asked()


def test_a_handler_of_somebody_else_stays() -> None:
    def own(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGINT, own)
    interrupts.listen()
    assert signal.getsignal(signal.SIGINT) is own


@pytest.mark.parametrize("error", [StageError("The stage export failed."), ImportError("half of a module")], ids=repr)
def test_what_a_library_made_of_it_is_told_as_an_interrupt(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgebert import cli

    def app(**options: Any) -> None:
        swallowed()
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == EXIT_INTERRUPTED
    said = capsys.readouterr().err
    assert "error: Interrupted." in said and "fault" not in said and "Traceback" not in said
