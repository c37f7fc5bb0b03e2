"""What the library tokenizers raises, panics of its Rust side included, as one kind of error. No torch."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from edgebert.errors import EdgebertError

Made = TypeVar("Made")
PANIC = "PanicException"
"""Class of a Rust panic; it is no Exception, so that `except Exception` lets it through."""
_REDIRECTED = threading.RLock()
"""Held while standard error leads elsewhere: a process has one for all of its threads."""


def without_panic(call: Callable[[], Made]) -> Made:
    """The result of a call into the library, whose panics are not printed.

    Standard error of the whole process leads nowhere during the call, so that this is for short calls of a command on the
    workstation, and not for what runs inside other programs.

    Raises:
        ValueError: the library panicked, or raised an error.
    """
    with library_errors(), _silent():
        return call()


@contextlib.contextmanager
def library_errors() -> Iterator[None]:
    """Turns what the library raises into ValueError with the first line that says something. edgebert's own errors pass.

    Raises:
        ValueError: the library panicked, or raised an error.
    """
    try:
        yield
    except (EdgebertError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        raise ValueError(first_line(str(error))) from None


def first_line(text: str) -> str:
    """The first line of an error that says something, without a full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else "the library tokenizers refuses it"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Within it nothing reaches the descriptor of standard error, which Rust writes to past `sys.stderr`.

    One thread at a time: two would put back each other's descriptor, in the end the one that leads nowhere.
    """
    with _REDIRECTED:
        kept = _copy_of_standard_error()
        if kept is None:
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(ValueError, OSError):
            sys.stderr.flush()
        try:
            os.dup2(sink, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(sink)
            os.close(kept)


def _copy_of_standard_error() -> int | None:
    """Another descriptor of it; None where it is closed, or everything is to be shown."""
    if os.environ.get("EDGEBERT_DEBUG"):
        return None
    try:
        return os.dup(2)
    except OSError:
        return None
