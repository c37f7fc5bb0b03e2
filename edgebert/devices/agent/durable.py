"""Files and folders that are still there after the power went away."""

from __future__ import annotations

import os
from pathlib import Path


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
