"""Receipts: records that a signature was checked here, so that the next load of the same content skips the check.

A receipt is for one manifest, one signature and one state of trust; when any of them changes, there is no receipt. It says
nothing about the files: their hashes are compared at every load. Receipts are in this user's cache folder, and are ignored
if other users can write them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from edgebert.bundle.trust.folders import cache_folder, write_private

FORM = b"edgebert receipt 1\n"
RECEIPT_LIMIT = 1 << 16
KEPT = 256
"""Most receipts that are kept; the oldest are deleted."""


def receipt_key(manifest: str, signature: bytes, trust: str) -> str:
    """Name of a receipt.

    Args:
        manifest: sha256 of the manifest.
        signature: content of the signature.
        trust: digest of the state of trust.
    """
    parts = (FORM, manifest.encode(), hashlib.sha256(signature).hexdigest().encode(), trust.encode())
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def read_receipt(key: str) -> dict[str, str] | None:
    """`name` and `identity` of the signer, as found then; None where there is no valid receipt."""
    folder = _folder()
    if folder is None:
        return None
    try:
        descriptor = os.open(folder / f"{key}.json", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not (_ours(os.fstat(descriptor)) and _ours(folder.stat())):
                return None
            found = json.loads(file.read(RECEIPT_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(field), str) for field in ("name", "identity"))
    return found if whole and found.get("receipt") == key else None


def write_receipt(key: str, signer: dict[str, str]) -> None:
    """Keeps the signer's `name` and `identity`. Where the cache cannot be written, the next load checks again."""
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        write_private(folder / f"{key}.json", json.dumps({**signer, "receipt": key}).encode())
        _drop_oldest(folder)


def _folder() -> Path | None:
    cache = cache_folder()
    return None if cache is None else cache / "receipts"


def _ours(status: os.stat_result) -> bool:
    return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _drop_oldest(folder: Path) -> None:
    receipts = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in receipts[KEPT:]:
        path.unlink(missing_ok=True)
