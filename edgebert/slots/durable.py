"""Files and folders that are still there after the power went away."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def sync(place: Path) -> None:
    """Has the disk hold a file's bytes, or a folder's names."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, text: str) -> None:
    """Writes a small file, which is there as a whole or as it was before, whatever happens."""
    draft = path.parent / f".{path.name}-{secrets.token_hex(4)}"
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)
