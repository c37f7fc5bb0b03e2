"""Room on the device's disk: asked for before bytes are taken, and told of in numbers where it ends in the middle."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from edgebert.errors import StoreError

MARGIN = 16 << 20
"""Bytes that are left to whatever else writes there."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Full, beyond the user's quota, or larger than this process may write."""


def free_bytes(folder: Path) -> int:
    """That this user may still write there; the folder need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require(folder: Path, size: int) -> None:
    """Sees to it that so many bytes can be written and a margin stays.

    Raises:
        StoreError: they cannot.
    """
    free = free_bytes(folder)
    if size + MARGIN > free:
        raise StoreError(
            f"{folder} needs room for {_mb(size)} and has {_mb(free)} free: {_mb(size + MARGIN - free)} are missing"
            f" ({_mb(MARGIN)} stay free for others).",
            hint="Make room on the device, then ship again: what has arrived is kept.",
        )


def fault(error: OSError, folder: Path, missing: int | None = None) -> StoreError:
    """What a write that failed means.

    Args:
        missing: bytes that could not be written any more.
    """
    if error.errno in FULL:
        amount = "" if missing is None else f" at least {_mb(missing)} more are needed."
        return StoreError(
            f"The disk of {folder} is full:{amount}" if amount else f"The disk of {folder} is full.",
            hint="Make room on the device, then ship again: what has arrived is kept.",
        )
    where = error.filename or folder
    where = where.decode(errors="replace") if isinstance(where, bytes) else where
    return StoreError(
        f"{where} cannot be used: {error.strerror or error}.", hint=f"Look at the rights and the disk of {folder}."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def remove(place: Path) -> None:
    """Removes a file, a link or a folder with all that is in it; nothing where there is nothing. Links are not followed."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def sync(place: Path) -> None:
    """Has the disk hold a file's bytes, or a folder's names."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def draft_of(path: Path) -> Path:
    """What a file is written as, before it is put in its place. Always the same, so that what a kill leaves is found."""
    return path.parent / f".{path.name}.draft"


def write_durably(path: Path, text: str) -> None:
    """Writes a small file, which is there as a whole or as it was before, whatever happens. One process at a time may."""
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
