"""The stack that signals are handled on, kept as it was around libraries that leave another.

Python handles signals on the alternate signal stack where a thread has one (sigaltstack(2)). OpenVINO sets one whenever it
compiles a graph and frees it with the graph, or earlier: from then on the first signal, a Ctrl-C, kills the process
with a segmentation fault instead of raising KeyboardInterrupt.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SignalStack) and (self.start, self.flags, self.size) == (other.start, other.flags, other.size)

    __hash__ = None  # type: ignore[assignment]  # it can change


def signal_stack() -> SignalStack | None:
    """The calling thread's; None where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    found = SignalStack()
    return None if ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) else found


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """After it the calling thread has the signal stack that it had before."""
    before = signal_stack()
    try:
        yield
    finally:
        if before is not None and signal_stack() != before:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
