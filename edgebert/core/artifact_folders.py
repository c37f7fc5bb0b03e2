"""The folders of a store: found oldest first, checked, and moved as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from edgebert.core.artifact import Artifact, read_manifest
from edgebert.core.faults import limit_fault
from edgebert.errors import StoreError

TRIAL = ".trial-"
"""What the name of an empty folder in artifacts/ begins with that was made to be moved."""

NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)
"""What the system or `open_regular` reports where a file is missing, or something else is in its place."""


def folders_in(root: Path) -> list[Path]:
    """The folder of every artifact, oldest first."""
    folders: list[tuple[float, Path]] = []
    for path in (root / "artifacts").glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):  # a collection removes it
            folders.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(folders)]


def artifacts_in(root: Path) -> list[Artifact]:
    """Every artifact, oldest first. A folder with an unreadable manifest is left out."""
    found = []
    for folder in folders_in(root):
        with contextlib.suppress(StoreError):
            found.append(Artifact(folder, read_manifest(folder)))
    return found


def fault_of(folder: Path) -> StoreError | None:
    """What differs between an artifact and its manifest, or prevents its reading; None where nothing does, or it is gone."""
    try:
        Artifact(folder, read_manifest(folder)).verify()
    except StoreError as error:
        return error if os.path.lexists(folder) else None
    except OSError as error:
        if limit_fault(error):
            raise
        if not os.path.lexists(folder):  # a collection removed it
            return None
        fault = StoreError(f"{error.filename or folder} cannot be read: {error.strerror}.", hint="May this user read it?")
        fault.__cause__ = error
        return fault
    return None


def may_be_whole(fault: StoreError) -> bool:
    """Whether files could not be read, which does not say that they were altered."""
    cause = fault.__cause__
    return isinstance(cause, OSError) and cause.errno not in NO_FILE


def bury(root: Path, folder: Path) -> None:
    """Moves a folder out of sight, whole, and then deletes it."""
    for grave in move_away(root, folder):
        shutil.rmtree(grave, ignore_errors=True)


def move_away(root: Path, folder: Path) -> list[Path]:
    """Moves a folder out of sight, whole, in a moment. Returns the folders to delete."""
    graves = []
    while folder.exists():
        graves.append(Path(tempfile.mkdtemp(dir=root / "tmp")))
        with contextlib.suppress(FileNotFoundError):  # a collection removed the grave, or another process the folder
            folder.replace(graves[-1] / "artifact")
    return graves


def try_to_move(root: Path) -> None:
    """Moves an empty folder between artifacts/ and tmp/, as an artifact is moved when it is whole: one may be a link to
    another disk.

    Raises:
        OSError: it cannot be moved.
    """
    trial = Path(tempfile.mkdtemp(prefix=TRIAL, dir=root / "artifacts"))
    moved = root / "tmp" / trial.name
    try:
        with contextlib.suppress(FileNotFoundError):  # a collection came first
            trial.replace(moved)
    finally:
        for folder in (trial, moved):
            shutil.rmtree(folder, ignore_errors=True)
