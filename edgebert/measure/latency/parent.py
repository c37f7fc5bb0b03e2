"""Ends a process together with the one that started it, however that one ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends a process when its parent has ended."""


def end_with(parent: int) -> None:
    """Has this process killed when the one with this id, its parent, ends. Linux alone has such a call.

    Raises:
        SystemExit: the parent has ended already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)
