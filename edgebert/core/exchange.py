"""Exchanges two paths of one file system in one step, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100
UNABLE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
"""What renameat2(2) reports where the kernel or the file system cannot exchange. EPERM is also the answer of a container
whose seccomp profile does not know the call; where rights are missing, rename(2) says so as well."""


def exchange(first: Path, second: Path) -> bool:
    """Exchanges two files or folders, so that at every moment something is at both paths.

    Returns:
        False where the system cannot do that; nothing changed then.

    Raises:
        OSError: it can, and refused.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    if library.renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(second))
