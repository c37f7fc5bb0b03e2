"""What a request names, looked at before anything is written: paths that stay in the bundle, one content for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from edgebert.bundle.device_folder import MANIFEST
from edgebert.devices.agent.protocol import Piece, Wanted
from edgebert.errors import BundleError

MOST_FILES = 4096
LONGEST_PATH = 1024


def check_files(files: Sequence[Wanted]) -> dict[str, Wanted]:
    """The files of a bundle by their paths.

    Raises:
        BundleError: they cannot be those of a bundle.
    """
    if len(files) > MOST_FILES:
        raise BundleError(f"{len(files)} files are more than a bundle has; at most {MOST_FILES} are taken.")
    found: dict[str, Wanted] = {}
    for item in files:
        _check_path(item.path)
        if item.path in found:
            raise BundleError(f"{item.path} is named twice.")
        found[item.path] = item
    for path in found:
        folder = next((str(parent) for parent in PurePosixPath(path).parents if str(parent) in found), None)
        if folder:
            raise BundleError(f"{folder} is named as a file and as the folder of {path}.")
    if MANIFEST not in found:
        raise BundleError(f"{MANIFEST} is not among the files, so they are no bundle.")
    sizes_of(files)
    return found


def sizes_of(items: Sequence[Wanted | Piece]) -> dict[str, int]:
    """sha256 -> size of each content.

    Raises:
        BundleError: one is said to have two sizes.
    """
    sizes: dict[str, int] = {}
    for item in items:
        if sizes.setdefault(item.sha256, item.size) != item.size:
            raise BundleError(f"The content {item.sha256[:12]} is said to have {sizes[item.sha256]} and {item.size} bytes.")
    return sizes


def _check_path(path: str) -> None:
    from edgebert.bundle.manifest import inside

    if len(path) > LONGEST_PATH or not path.isprintable() or path == ".":
        raise BundleError(f"{path[:80]!r} is not the plain path of a file.")
    try:
        inside(path)
    except ValueError as error:
        raise BundleError(f"{error}.") from error
