"""Contents: which files of a bundle a slot holds already, and whether a list of files can be a bundle.

Contents are found by hashing. Time and size of a file do not show a bit that flipped on its disk, and a damaged content that
passes for complete would make every later shipment fail in the same way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from edgebert.bundle.device_folder import MANIFEST, SLOTS, Root
from edgebert.core.store import hash_file
from edgebert.devices.agent.protocol import Piece, RequestedFile
from edgebert.errors import BundleError

MOST_FILES = 4096
LONGEST_PATH = 1024
"""Characters of a path in a bundle."""


def regular_size(path: Path) -> int | None:
    """Size in bytes of a regular file; None for anything else, and where nothing is."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def holds(path: Path, sha256: str, size: int) -> bool:
    """Whether a regular file has this content."""
    try:
        return regular_size(path) == size and hash_file(path) == sha256
    except OSError:  # a disk that cannot read it back
        return False


def in_slots(root: Root, sizes: Mapping[str, int]) -> dict[str, Path]:
    """sha256 -> path of each requested content that a slot holds. Only files of a requested size are read.

    Args:
        sizes: sha256 -> size in bytes of each requested content.
    """
    paths: dict[str, Path] = {}
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
            paths.setdefault(sha256, path)
    return paths


def _slot_files(root: Root) -> Iterator[Path]:
    for name in SLOTS:
        for folder, _, files in os.walk(root.slot(name)):
            yield from (Path(folder, file) for file in sorted(files))


def check_files(files: Sequence[RequestedFile]) -> dict[str, RequestedFile]:
    """The files of a bundle by their paths.

    Raises:
        BundleError: they cannot be the files of a bundle.
    """
    if len(files) > MOST_FILES:
        raise BundleError(f"{len(files)} files are more than a bundle has; at most {MOST_FILES} are taken.")
    by_path: dict[str, RequestedFile] = {}
    for item in files:
        _check_path(item.path)
        if item.path in by_path:
            raise BundleError(f"{item.path} is named twice.")
        by_path[item.path] = item
    for path in by_path:
        folder = next((str(parent) for parent in PurePosixPath(path).parents if str(parent) in by_path), None)
        if folder:
            raise BundleError(f"{folder} is named as a file and as the folder of {path}.")
    if MANIFEST not in by_path:
        raise BundleError(f"{MANIFEST} is not among the files, so they are no bundle.")
    sizes_of(files)
    return by_path


def sizes_of(items: Sequence[RequestedFile | Piece]) -> dict[str, int]:
    """sha256 -> size in bytes of each content.

    Raises:
        BundleError: one content is listed with two sizes.
    """
    sizes: dict[str, int] = {}
    for item in items:
        if sizes.setdefault(item.sha256, item.size) != item.size:
            raise BundleError(f"The content {item.sha256[:12]} is listed with {sizes[item.sha256]} and {item.size} bytes.")
    return sizes


def _check_path(path: str) -> None:
    from edgebert.bundle.manifest import inside

    if len(path) > LONGEST_PATH or not path.isprintable() or path == ".":
        raise BundleError(f"{path[:80]!r} is not the plain path of a file.")
    try:
        inside(path)
    except ValueError as error:
        raise BundleError(f"{error}.") from error
