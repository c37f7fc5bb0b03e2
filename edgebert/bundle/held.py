"""HeldFiles: copies of a bundle's files that nobody can change, so that a runtime opens the very bytes that were hashed.

Whoever may write to a bundle's folder could exchange a file, or a whole folder, between its hash and its use, and put it back
after that. On Linux a copy is a sealed file in memory, which is freed once it has been opened and closed. Other systems get a
copy in a temporary folder that only this user can open.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from edgebert.bundle.files import altered, blocks_of
from edgebert.bundle.folder import BundleFolder
from edgebert.core.store import FileEntry
from edgebert.errors import EnvironmentFault

DESCRIPTORS = Path("/proc/self/fd")
NO_MORE_WRITES = 0x10
"""F_SEAL_FUTURE_WRITE of Linux 5.1. F_SEAL_WRITE, for older kernels, forbids even mappings for reading if they are shared."""

NO_FILES_IN_MEMORY = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)
"""What a sandbox or a kernel answers that has no sealed files in memory; other errors say that there is no room for one."""


class HeldFiles:
    """Copies by name. A context manager, which drops them."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """The copies."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drops all copies; what has opened one keeps it."""
        self._open.close()

    def hold(self, folder: BundleFolder, name: str, entry: FileEntry) -> Path:
        """Copies a file once, compares the copy's hash, and returns a path that opens the copy.

        Raises:
            BundleError: the file was altered, is not a plain file, or cannot be read.
            EnvironmentFault: there is no memory for the copy.
        """
        if name not in self._paths:
            try:
                path = self._in_memory(folder, name, entry) or self._in_a_folder(folder, name, entry)
            except OSError as error:
                reason = f"{folder.path / name} cannot be copied before it is opened: {error.strerror}."
                raise EnvironmentFault(reason, hint=f"It takes {entry.size / 1e6:.0f} MB of memory for a moment.") from error
            if _sha256(path) != entry.sha256:
                raise altered(folder, name)
            self._paths[name] = path
        return self._paths[name]

    def _in_memory(self, folder: BundleFolder, name: str, entry: FileEntry) -> Path | None:
        """A sealed file in memory; None where the system has none, or no path to it."""
        descriptor = _memory_file()
        if descriptor is None:
            return None
        self._open.callback(os.close, descriptor)
        with open(descriptor, "wb", buffering=0, closefd=False) as copy:
            for block in blocks_of(folder, name, entry.size):
                _write(copy.fileno(), block)
        _seal(descriptor)
        return DESCRIPTORS / str(descriptor)

    def _in_a_folder(self, folder: BundleFolder, name: str, entry: FileEntry) -> Path:
        private = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="edgebert-")))
        with (private / Path(name).name).open("wb") as copy:
            for block in blocks_of(folder, name, entry.size):
                copy.write(block)
        return private / Path(name).name


@contextmanager
def mapped(descriptor: int) -> Iterator[mmap.mmap | bytes]:
    """The content of a file without a copy; closes the descriptor and the mapping.

    Raises:
        OSError: it cannot be read.
    """
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size == 0:
            yield b""
            return
        with _mapping(file.fileno()) as data:
            yield data


def _mapping(descriptor: int) -> mmap.mmap:
    if sys.platform != "linux":
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)  # a sealed file may allow no shared one


def _sha256(path: Path) -> str:
    with mapped(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))) as data:
        return hashlib.sha256(data).hexdigest()


def _memory_file() -> int | None:
    if sys.platform != "linux" or not hasattr(os, "memfd_create") or not DESCRIPTORS.is_dir():
        return None  # a Python that was built for an old glibc has no memfd_create
    try:
        return os.memfd_create("edgebert", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        if error.errno not in NO_FILES_IN_MEMORY:
            raise
        return None


def _seal(descriptor: int) -> None:
    """Nobody can write to the file any more, whoever has it open."""
    import fcntl

    size = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    try:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, size | NO_MORE_WRITES | fcntl.F_SEAL_SEAL)
    except OSError:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, size | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)


def _write(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]
