"""Removing what may not be there, or only in part."""

from __future__ import annotations

import shutil
from pathlib import Path


def remove(place: Path) -> None:
    """Removes a file, a link or a folder with all that is in it; nothing where there is nothing. Links are not followed."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
