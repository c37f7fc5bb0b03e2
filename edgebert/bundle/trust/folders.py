"""Where keys, trust.toml and receipts of this user are kept, and how they are written. Never beside a bundle."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgebert.errors import EnvironmentFault


def config_folder() -> Path | None:
    """`$XDG_CONFIG_HOME/edgebert`, by default `~/.config/edgebert`; None for a user without a home."""
    return _folder("XDG_CONFIG_HOME", ".config")


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/edgebert`, by default `~/.cache/edgebert`; None for a user without a home."""
    return _folder("XDG_CACHE_HOME", ".cache")


def config_file(name: str) -> Path:
    """Path of a file in the configuration folder, whether or not the file exists.

    Raises:
        EnvironmentFault: this user has no home.
    """
    folder = config_folder()
    if folder is None:
        raise EnvironmentFault("This user has no home folder to keep keys in.", hint="Name a folder with XDG_CONFIG_HOME.")
    return folder / name


def _folder(variable: str, usual: str) -> Path | None:
    named = os.environ.get(variable, "")
    if named and Path(named).is_absolute():  # the XDG specification: a relative path is ignored
        return Path(named) / "edgebert"
    try:
        return Path.home() / usual / "edgebert"
    except RuntimeError:
        return None


def others_may_write(status: os.stat_result) -> bool:
    """Whether other users than this one and root may write a file. It cannot say then whom to trust."""
    return os.name == "posix" and bool(status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()))


def write_private(path: Path, data: bytes, mode: int = 0o600, *, new: bool = False) -> bool:
    """Writes a file atomically. Folders that it has to make are open to this user only.

    Args:
        new: an existing file is kept.

    Returns:
        Whether it was written.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.parent / f".{path.name}-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            draft.replace(path)
            return True
        try:
            os.link(draft, path)  # unlike a rename, it fails where another process came first
        except FileExistsError:
            return False
        return True
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[Path]:
    """The bytes as a file, for libraries that want a path. In memory where possible: a full disk does not matter."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("edgebert")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="edgebert-") as folder:
        (Path(folder) / "file").write_bytes(data)
        yield Path(folder) / "file"
