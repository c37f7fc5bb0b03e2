"""Contents that are on the device already: in the folder where they arrive, and in the slots.

All are found by hashing them. Time and size of a file say nothing of a bit that flipped on its disk, and a content that is
taken for whole and is not would have every later shipment fail in the same way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgebert.bundle.device_folder import SLOTS, Root
from edgebert.core.store import hash_file


def regular_size(path: Path) -> int | None:
    """Bytes of a regular file; None for anything else, or nothing."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def holds(path: Path, sha256: str, size: int) -> bool:
    """Whether a regular file is that content."""
    try:
        return regular_size(path) == size and hash_file(path) == sha256
    except OSError:  # a disk that cannot read it back
        return False


def in_slots(root: Root, sizes: Mapping[str, int]) -> dict[str, Path]:
    """Of the contents asked for those that a slot holds, and where. Only files of a size that is asked for are read."""
    found: dict[str, Path] = {}
    wanted, seen = set(sizes.values()), set()
    for path in _slot_files(root):
        status = path.lstat()
        inode = status.st_dev, status.st_ino
        if not stat.S_ISREG(status.st_mode) or status.st_size not in wanted or inode in seen:
            continue
        seen.add(inode)
        try:
            sha256 = hash_file(path)
        except OSError:
            continue
        if sizes.get(sha256) == status.st_size:
            found.setdefault(sha256, path)
    return found


def _slot_files(root: Root) -> Iterator[Path]:
    for name in SLOTS:
        for folder, _, files in os.walk(root.slot(name)):
            yield from (Path(folder, file) for file in sorted(files))
