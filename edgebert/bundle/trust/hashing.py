"""How a bundle is hashed for its signature: every file of it, whole, by sha256."""

from __future__ import annotations

from typing import Any

from edgebert.bundle.trust.envelope import SIGNATURE

LEFT_BY_THE_HUB = (".gitattributes", ".git", ".cache")
"""What a Hub repository and its client put beside the files of a bundle; nothing reads it, and no signature covers it."""


def hashing_config() -> Any:
    """A model_signing.hashing.Config that leaves out the signature and what the Hub leaves there, and refuses links."""
    from model_signing import hashing

    new: Any = hashing.Config  # its constructor has no types
    config = new().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=(SIGNATURE, *LEFT_BY_THE_HUB), ignore_git_paths=False)
