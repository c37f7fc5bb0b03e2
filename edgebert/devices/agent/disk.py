"""The device's disk: free space is checked before bytes are received, a full disk is reported in numbers, and small files are
written so that they survive a power cut."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from edgebert.errors import StoreError

MAKE_ROOM = "Make room on the device, then ship again: what has arrived is kept."
MARGIN = 16 << 20
"""Bytes that stay free for other programs."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Disk full, beyond the user's quota, or larger than this process may write."""


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write there; the folder need not exist."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require(folder: Path, size: int) -> None:
    """Checks that `size` bytes can be written and `MARGIN` bytes stay free.

    Raises:
        StoreError: there is too little space.
    """
    free = free_bytes(folder)
    if size + MARGIN > free:
        raise StoreError(
            f"{folder} needs room for {_mb(size)} and has {_mb(free)} free: {_mb(size + MARGIN - free)} are missing"
            f" ({_mb(MARGIN)} stay free for others).",
            hint=MAKE_ROOM,
        )


def fault(error: OSError, folder: Path, missing: int | None = None) -> StoreError:
    """The error to report for a write that failed.

    Args:
        missing: bytes that could not be written.
    """
    if error.errno in FULL:
        amount = "." if missing is None else f": at least {_mb(missing)} more are needed."
        return StoreError(f"The disk of {folder} is full{amount}", hint=MAKE_ROOM)
    path = os.fsdecode(error.filename or folder)
    return StoreError(f"{path} cannot be used: {error.strerror or error}.", hint=f"Check the permissions and disk of {folder}.")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with its files. Links are not followed; a missing path is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flushes a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def draft_of(path: Path) -> Path:
    """Path under which a file is written before it is renamed. Always the same, so that a killed agent's draft is removed."""
    return path.parent / f".{path.name}.draft"


def write_durably(path: Path, text: str) -> None:
    """Writes a small file atomically: whatever happens, it holds either all of the new text or the old one. Not for use by
    several processes at once."""
    draft = draft_of(path)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)
