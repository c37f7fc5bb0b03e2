"""Where libraries keep what they download, compile and log: in the store, not in a home that may not be there."""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS = {
    "HF_DATASETS_CACHE": "datasets",
    "HF_MODULES_CACHE": "modules",
    "TORCH_HOME": "torch",
    "TORCH_EXTENSIONS_DIR": "torch-extensions",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "HABANA_LOGS": "neural-compressor",
}
"""Environment variable of a library -> its folder in the store."""
HUB = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
"""Variables with which a user says where models and data sets of the Hub are kept."""
_named: dict[str, str] = {}
"""What this process named last: variable -> folder."""


def keep_in(store: Path) -> None:
    """Names folders of the store to libraries that are imported later. What the user named stays, and so do models of the Hub
    in a home that can be written: they were downloaded before, and other tools share them. A store that a file stands in
    the way of keeps nothing."""
    if not _nearest(store).is_dir():
        return
    caches = store / "caches"
    for variable, folder in FOLDERS.items():
        if os.environ.get(variable) in (None, _named.get(variable)):  # the last store's name gives way to this one's
            os.environ[variable] = _named[variable] = str(caches / folder)
    if not any(os.environ.get(variable) for variable in HUB) and not _may_write(Path("~/.cache/huggingface")):
        os.environ["HF_HOME"] = str(caches / "huggingface")


def _may_write(path: Path) -> bool:
    """Whether this user may write a folder, or make it."""
    try:
        folder = path.expanduser()
    except RuntimeError:  # a user without a home
        return False
    existing = _nearest(folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _nearest(path: Path) -> Path:
    """The path, or the folder above it that is there."""
    absolute = path.absolute()
    return next(parent for parent in (absolute, *absolute.parents) if os.path.lexists(parent))
