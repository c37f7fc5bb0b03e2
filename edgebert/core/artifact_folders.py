"""The folders of a store: found oldest first, checked, and moved as a whole."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from edgebert.core.artifact import Artifact, read_manifest
from edgebert.errors import StoreError

TRIAL = ".trial-"
"""What the name of an empty folder in artifacts/ begins with that was made to be moved."""


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
    """What differs between an artifact and its manifest; None where nothing does."""
    try:
        Artifact(folder, read_manifest(folder)).verify()
    except StoreError as error:
        return error
    return None


def bury(root: Path, folder: Path) -> None:
    """Moves a folder out of sight, whole, and then deletes it."""
    while folder.exists():
        grave = Path(tempfile.mkdtemp(dir=root / "tmp")) / "artifact"
        with contextlib.suppress(FileNotFoundError):  # a collection removed the grave, or another process the folder
            folder.replace(grave)
        shutil.rmtree(grave.parent, ignore_errors=True)


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
