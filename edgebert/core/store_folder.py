"""Where the store of finished stages is, unless the user names another place."""

from __future__ import annotations

import os
from pathlib import Path


def store_folder(folder: str | Path | None = None) -> Path:
    """The folder that was named, else $EDGEBERT_HOME, else `.edgebert` here; absolute."""
    return Path(folder or os.environ.get("EDGEBERT_HOME") or ".edgebert").absolute()
