"""The files of a bundle folder: listed without following links, opened only if they are plain files, hashed within limits."""

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
"""Bytes of a name within the bundle: other systems allow little more, and the folder's own path comes on top."""
AGAIN = "Fetch the bundle again."
SIZE_LIMITS = {"edgebert.json": 2 << 20, "config.json": 4 << 20, "tokenizer_config.json": 16 << 20, "tokenizer.json": 64 << 20}
"""Most bytes of files that are parsed as a whole: far more than real ones have."""
XML_LIMIT = 128 << 20
"""Most bytes of an OpenVINO graph without its weights."""
Stamp = tuple[int, int, int]
"""Inode, size in bytes and time of change (ctime, ns) of a file: another file at its path has another stamp."""


def list_files(folder: Path, left_out: Iterable[str] = ()) -> dict[str, int]:
    """Name -> size in bytes of every file below a folder, names with `/`.

    Args:
        left_out: names directly in the folder that are skipped.

    Raises:
        BundleError: there is a link, a pipe, a device or a socket, or more files than a bundle may have.
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
    """Compares files with a manifest: names and sizes first, then sha256.

    Args:
        files: the manifest's entries.
        present: result of `list_files` without the manifest and the signature.

    Returns:
        Name -> stamp of each file, from the file descriptor that was hashed.

    Raises:
        BundleError: a file is missing, unlisted, too large or altered.
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
    """The stamp of the file at a path now; a link is not followed.

    Raises:
        OSError: there is no file.
    """
    return _stamp(path.lstat())


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_ctime_ns


def altered(path: Path) -> BundleError:
    """The error for a file whose content changed."""
    return BundleError(f"{path} was altered after it was written.", hint=AGAIN)


def size_limit(name: str) -> int:
    """Most bytes that a file of that name may have."""
    return SIZE_LIMITS.get(name, XML_LIMIT if name.endswith(".xml") else 1 << 40)


def hash_plain_file(path: Path, size: int) -> tuple[str, Stamp]:
    """sha256 of a file, and its stamp before it was read.

    Args:
        size: bytes that the file should have; at most one byte more is read.

    Raises:
        BundleError: it is not a plain file, or cannot be read.
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
    """The content of a file of at most `limit` bytes.

    Raises:
        BundleError: it is not a plain file, cannot be read, or is larger.
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
    """Opens a plain file. It does not wait for a pipe, touch a device or follow a link.

    Returns:
        The file descriptor.

    Raises:
        BundleError: it is not a plain file, or cannot be read.
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
    """A name that somebody else chose, escaped if it holds characters that control a terminal."""
    return name if name.isprintable() else ascii(name)
