"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever it happens to be, and some library code takes any exception for a failure of its own,
most often while it is imported: the interrupt vanishes, or comes out as another error. It is therefore also remembered.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgebert.progress import Progress, Step

_asked = threading.Event()


def listen() -> None:
    """Remembers every Ctrl-C from now on. A handler that somebody else has set stays."""
    _asked.clear()
    main = threading.current_thread() is threading.main_thread()  # no other thread may set a handler
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def asked() -> bool:
    """Whether there was a Ctrl-C."""
    return _asked.is_set()


def _remember(number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt


def _stop_if_asked() -> None:
    if _asked.is_set():
        raise KeyboardInterrupt


class Interruptible:
    """Progress that ends the run, at its next sign of life, when a Ctrl-C was swallowed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def note(self, line: str) -> None:
        """Prints the line.

        Raises:
            KeyboardInterrupt: there was a Ctrl-C.
        """
        _stop_if_asked()
        self._progress.note(line)

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[Step]:
        """Opens a step.

        Raises:
            KeyboardInterrupt: there was a Ctrl-C.
        """
        _stop_if_asked()
        with self._progress.step(title, total) as step:
            yield _InterruptibleStep(step)
            _stop_if_asked()


class _InterruptibleStep:
    def __init__(self, step: Step) -> None:
        self._step = step

    def advance(self, count: float = 1) -> None:
        _stop_if_asked()
        self._step.advance(count)

    def skip_to(self, count: float) -> None:
        _stop_if_asked()
        self._step.skip_to(count)
