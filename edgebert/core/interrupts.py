"""Interrupts that cannot get lost: Ctrl-C, SIGTERM from a supervisor, SIGHUP from a closed terminal.

All three raise KeyboardInterrupt, so that files are cleaned up and measuring processes are ended. Python raises it wherever it
happens to be, and some library code takes any exception for a failure of its own, most often while it is imported: the
interrupt vanishes, or comes out as another error. It is therefore also remembered. OpenVINO exchanges the stack that signal
handlers run on; `signal_stack_kept` restores it. `end_with` ends a process together with the one that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebert.core.progress import Progress, ProgressStep

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that interrupt; not every system has all of them."""
UNTOUCHED = (signal.default_int_handler, signal.SIG_DFL)
"""Python's own handlers, which may be replaced."""

_asked = threading.Event()
_left: list[str] = []
_number = signal.SIGINT
_owner = 0


def listen() -> None:
    """Remembers every Ctrl-C, SIGTERM and SIGHUP from now on. Handlers set by others (nohup) are kept."""
    global _owner, _number
    _asked.clear()
    _left.clear()
    _number, _owner = signal.SIGINT, os.getpid()
    if threading.current_thread() is not threading.main_thread():  # no other thread may set a handler
        return
    for number in map(_number_of, NAMES):
        if number and signal.getsignal(number) in UNTOUCHED:
            signal.signal(number, _remember)


def asked() -> bool:
    """Whether there was an interrupt."""
    return _asked.is_set()


def exit_code() -> int:
    """128 and the signal's number, as a shell reports it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + _number


def leave(line: str) -> None:
    """Sets the line that is printed should the work be interrupted: what there is of it all the same."""
    _left[:] = [line]


def left() -> str | None:
    """The line that `leave` set last."""
    return _left[0] if _left else None


@contextlib.contextmanager
def calling_instead(act: Callable[[], None]) -> Iterator[None]:
    """Within it, the first interrupt calls `act` instead of raising KeyboardInterrupt, which would break an event loop wherever
    it happens to be. Later interrupts raise KeyboardInterrupt, for users who do not want to wait."""
    handled = [number for number in map(_number_of, NAMES) if number and signal.getsignal(number) is _remember]
    first = threading.Event()

    def once(number: int, frame: FrameType | None) -> None:
        if first.is_set():
            _remember(number, frame)
        first.set()
        _note(number)
        act()

    for number in handled:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, _remember)


def finish(work: Coroutine[Any, Any, None]) -> bool:
    """Runs asynchronous work to its end, or until an interrupt cancels it, so that it reports its state and releases what it
    holds. Returns whether it came to its end."""
    import asyncio

    async def watched() -> bool:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(task.cancel)

        with calling_instead(stop):
            try:
                await task
            except asyncio.CancelledError:
                if not asked():
                    raise
                return False
        return True

    return asyncio.run(watched())


def _number_of(name: str) -> signal.Signals | None:
    return getattr(signal, name, None)


def _remember(number: int, frame: FrameType | None) -> None:
    _note(number)
    raise KeyboardInterrupt


def _note(number: int) -> None:
    global _number
    if os.getpid() != _owner and number != signal.SIGINT:  # a fork of this process, which others expect to end at once
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if not _asked.is_set():
        _number = signal.Signals(number)
    _asked.set()


def _stop_if_asked() -> None:
    if _asked.is_set():
        raise KeyboardInterrupt


class Interruptible:
    """Progress that raises a swallowed interrupt again, at the next thing that the run reports."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def note(self, line: str) -> None:
        """Prints the line.

        Raises:
            KeyboardInterrupt: there was an interrupt.
        """
        _stop_if_asked()
        self._progress.note(line)

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Opens a step.

        Raises:
            KeyboardInterrupt: there was an interrupt.
        """
        _stop_if_asked()
        with self._progress.step(title, total) as step:
            yield _InterruptibleStep(step)
            _stop_if_asked()


class _InterruptibleStep:
    def __init__(self, step: ProgressStep) -> None:
        self._step = step

    def advance(self, count: float = 1) -> None:
        _stop_if_asked()
        self._step.advance(count)

    def skip_to(self, count: float) -> None:
        _stop_if_asked()
        self._step.skip_to(count)


class SignalStack(ctypes.Structure):
    """The C structure stack_t of Linux (sigaltstack(2))."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SignalStack) and (self.start, self.flags, self.size) == (other.start, other.flags, other.size)

    __hash__ = None  # type: ignore[assignment]  # it can change


def signal_stack() -> SignalStack | None:
    """The signal stack of the calling thread; None where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    stack = SignalStack()
    return None if ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) else stack


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """After it the calling thread has the signal stack that it had before."""
    before = signal_stack()
    try:
        yield
    finally:
        if before is not None and signal_stack() != before:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends a process when its parent has ended."""


def end_with(parent: int) -> None:
    """Has the kernel kill this process when its parent, the process with this id, ends. Linux alone has such a call.

    Raises:
        SystemExit: the parent has ended already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)
