"""The files of a bundle folder: found without following a link, opened only where they are plain, hashed within bounds."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edgebert.core.store import HASH_BLOCK, FileEntry
from edgebert.errors import BundleError

FILES_LIMIT = 1000
DEPTH_LIMIT = 8
PATH_LIMIT = 240
"""Of a name within the bundle, in bytes: what other systems allow, with some room for the folder itself."""
AGAIN = "Fetch the bundle again."
SIZE_LIMITS = {"edgebert.json": 2 << 20, "config.json": 4 << 20, "tokenizer_config.json": 16 << 20, "tokenizer.json": 64 << 20}
"""Bytes that files may have which are parsed as a whole: far more than any that serves."""
XML_LIMIT = 128 << 20
Stamp = tuple[int, int, int]
"""Inode, size in bytes and time of the last change (ctime, ns) of a file: what is put in its place has another."""


def list_files(folder: Path, left_out: Iterable[str] = ()) -> dict[str, int]:
    """Name -> size in bytes of every file below a folder, names with `/`.

    Args:
        left_out: names directly in the folder that are passed over, whatever they are.

    Raises:
        BundleError: there is a link, a pipe, a device or a socket, or more than a bundle may hold.
    """
    found: dict[str, int] = {}
    for name, status in _walk(folder, "", frozenset(left_out), 1):
        found[name] = status.st_size
        if len(found) > FILES_LIMIT:
            raise BundleError(f"{folder} holds more than {FILES_LIMIT} files, which no bundle does.", hint=AGAIN)
    return found


def _walk(folder: Path, prefix: str, left_out: frozenset[str], depth: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder / prefix) as found:
            entries = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in found)
    except OSError as error:
        raise BundleError(f"{folder / prefix} cannot be read: {error.strerror}.") from error
    for base, status in entries:
        name = prefix + base
        if base in left_out:
            continue
        if stat.S_ISDIR(status.st_mode):
            if depth >= DEPTH_LIMIT or len(os.fsencode(name)) > PATH_LIMIT:
                raise BundleError(f"{folder} holds folders deeper than a bundle's: {shown(name)}.", hint=AGAIN)
            yield from _walk(folder, f"{name}/", frozenset(), depth + 1)
        elif stat.S_ISREG(status.st_mode):
            yield name, status
        else:
            raise BundleError(f"{folder} holds {shown(name)}, which is {_kind(status.st_mode)}; bundles hold files only.")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def check_files(folder: Path, files: Mapping[str, FileEntry], present: Mapping[str, int]) -> dict[str, Stamp]:
    """Compares files with what a manifest says of them: what is there and its sizes first, then hashes.

    Args:
        present: what `list_files` found, without what a manifest does not list.

    Returns:
        Name -> stamp of each file, taken of the very descriptor that was hashed.

    Raises:
        BundleError: one is missing, more than the manifest lists, or altered.
    """
    for name in sorted(present.keys() - files.keys()):
        raise BundleError(
            f"{folder} holds {shown(name)}, which its manifest does not list.", hint="Remove it, or fetch the bundle again."
        )
    for name, entry in files.items():
        if name not in present:
            raise BundleError(f"{folder / name} is missing.", hint=AGAIN)
        if present[name] != entry.size:
            raise altered(folder / name)
        if entry.size > size_limit(name):
            raise BundleError(f"{folder / name} is larger than {size_limit(name) >> 20} MB, which no such file is.")
    stamps = {}
    for name, entry in files.items():
        sha256, stamps[name] = hash_plain_file(folder / name, entry.size)
        if sha256 != entry.sha256:
            raise altered(folder / name)
    return stamps


def stamp(path: Path) -> Stamp:
    """The stamp of what lies there now; a link is not followed.

    Raises:
        OSError: nothing does.
    """
    return _stamp(path.lstat())


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_ctime_ns


def altered(path: Path) -> BundleError:
    """What is said of a file that is not as it was."""
    return BundleError(f"{path} was altered after it was written.", hint=AGAIN)


def size_limit(name: str) -> int:
    """Bytes that a file of a bundle may have."""
    return SIZE_LIMITS.get(name, XML_LIMIT if name.endswith(".xml") else 1 << 40)


def hash_plain_file(path: Path, size: int) -> tuple[str, Stamp]:
    """sha256 of a file that has that size, and its stamp before it was read; no more than that is read.

    Raises:
        BundleError: it is no plain file, or cannot be read.
    """
    digest, left = hashlib.sha256(), size + 1
    with os.fdopen(open_plain(path), "rb", buffering=0) as file:
        seen = _stamp(os.fstat(file.fileno()))
        block = memoryview(bytearray(min(HASH_BLOCK, left)))
        try:
            while left and (count := file.readinto(block[:left])):
                digest.update(block[:count])
                left -= count
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest(), seen


def read_plain_file(path: Path, limit: int) -> bytes:
    """The content of a small file.

    Raises:
        BundleError: it is no plain file, cannot be read, or is larger.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > limit:
        raise BundleError(f"{path} is larger than {limit >> 20} MB, which no such file is.", hint=AGAIN)
    return data


def open_plain(path: Path) -> int:
    """A descriptor of a plain file. A pipe is not waited for, a device not touched, a link not followed.

    Raises:
        BundleError: it is something else, or cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BundleError(f"{path} is a link; bundles hold files only.") from error
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"{path} is {_kind(path.lstat().st_mode)}; bundles hold files only.")
    return descriptor


def shown(name: str) -> str:
    """A name that somebody else chose, so that no terminal obeys it."""
    return name if name.isprintable() else ascii(name)
