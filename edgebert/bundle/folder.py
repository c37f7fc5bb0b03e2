"""BundleFolder: a folder that is read as one, whatever takes its place meanwhile; only plain files of it are opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from edgebert.errors import BundleError

FILES_LIMIT = 1000
DEPTH_LIMIT = 8
PATH_LIMIT = 240
"""Bytes of a name within the bundle: other systems allow little more, and the folder's own path comes on top."""
AGAIN = "Fetch the bundle again."
RELATIVE = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
"""Whether this system opens files relative to a folder's descriptor. Windows does not: there each path counts anew."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
FILE = os.O_RDONLY | NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
Identity = tuple[int, int]
"""Device and inode of a folder, which another folder at the same path does not have."""


class BundleFolder:
    """A folder, opened once. Everything below it is found relative to its descriptor and through no link.

    A context manager, which closes the descriptor.

    Raises:
        BundleError: there is no folder, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The path that it was opened at, for messages."""
        self.descriptor = _open_folder(path) if RELATIVE else None
        """None where the system opens nothing relative to a folder."""

    def __enter__(self) -> Self:
        """The folder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        if self.descriptor is not None:
            os.close(self.descriptor)

    @property
    def identity(self) -> Identity:
        """Device and inode of the folder that was opened."""
        status = self.path.stat() if self.descriptor is None else os.fstat(self.descriptor)
        return status.st_dev, status.st_ino

    def open(self, name: str) -> int:
        """Opens a plain file. It does not wait for a pipe, touch a device or follow a link, not even to a folder.

        Args:
            name: relative to the folder, with `/`.

        Returns:
            The file descriptor.

        Raises:
            BundleError: it is not a plain file, or cannot be read.
        """
        shown_path = self.path / name
        try:
            descriptor = self._open(name)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BundleError(f"{shown_path} is a link; bundles hold files only.") from error
            raise BundleError(f"{shown_path} cannot be read: {error.strerror}.") from error
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise BundleError(f"{shown_path} is {kind_of(mode)}; bundles hold files only.")
        return descriptor

    def _open(self, name: str) -> int:
        if self.descriptor is None:
            return os.open(self.path / name, FILE)
        *folders, base = name.split("/")
        with ExitStack() as stack:
            at = self.descriptor
            for folder in folders:
                at = os.open(folder, FOLDER | NO_LINK, dir_fd=at)
                stack.callback(os.close, at)
            return os.open(base, FILE, dir_fd=at)

    def sizes(self, left_out: Iterable[str] = ()) -> dict[str, int]:
        """Name -> size in bytes of every file below the folder, names with `/`.

        Args:
            left_out: names directly in the folder that are skipped.

        Raises:
            BundleError: there is a link, a pipe, a device or a socket, or more files than a bundle may have.
        """
        found: dict[str, int] = {}
        for name, status in self._walk(self.descriptor, "", frozenset(left_out), 1):
            found[name] = status.st_size
            if len(found) > FILES_LIMIT:
                raise BundleError(f"{self.path} holds more than {FILES_LIMIT} files, which no bundle does.", hint=AGAIN)
        return found

    def _walk(self, at: int | None, prefix: str, left_out: frozenset[str], depth: int) -> Iterator[tuple[str, os.stat_result]]:
        for base, status in self._entries(at, prefix):
            name = prefix + base
            if base in left_out:
                continue
            if stat.S_ISDIR(status.st_mode):
                if depth >= DEPTH_LIMIT or len(os.fsencode(name)) > PATH_LIMIT:
                    raise BundleError(f"{self.path} holds folders deeper than a bundle's: {shown(name)}.", hint=AGAIN)
                with self._below(at, base, name) as inner:
                    yield from self._walk(inner, f"{name}/", frozenset(), depth + 1)
            elif stat.S_ISREG(status.st_mode):
                yield name, status
            else:
                kind = kind_of(status.st_mode)
                raise BundleError(f"{self.path} holds {shown(name)}, which is {kind}; bundles hold files only.")

    def _entries(self, at: int | None, prefix: str) -> list[tuple[str, os.stat_result]]:
        try:
            with os.scandir(self.path / prefix if at is None else at) as found:
                return sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in found)
        except OSError as error:
            raise BundleError(f"{self.path / prefix} cannot be read: {error.strerror}.") from error

    @contextmanager
    def _below(self, at: int | None, base: str, name: str) -> Iterator[int | None]:
        """Descriptor of a folder in the folder at that descriptor."""
        if at is None:
            yield None
            return
        try:
            descriptor = os.open(base, FOLDER | NO_LINK, dir_fd=at)
        except OSError as error:
            raise BundleError(f"{self.path / name} cannot be read: {error.strerror}.") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, FOLDER)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error


def kind_of(mode: int) -> str:
    """What is neither a file nor a folder, in words."""
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def shown(name: str) -> str:
    """A name that somebody else chose, escaped if it holds characters that control a terminal."""
    return name if name.isprintable() else ascii(name)
