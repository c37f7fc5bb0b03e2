"""The files of a bundle folder, compared with its manifest: names and sizes, contents by their sha256, all within limits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

from edgebert.bundle.folder import AGAIN, BundleFolder, shown
from edgebert.core.store import HASH_BLOCK, FileEntry
from edgebert.errors import BundleError

SIZE_LIMITS = {"edgebert.json": 2 << 20, "config.json": 4 << 20, "tokenizer_config.json": 16 << 20, "tokenizer.json": 64 << 20}
"""Most bytes of files that are parsed as a whole: far more than real ones have."""
XML_LIMIT = 128 << 20
"""Most bytes of an OpenVINO graph without its weights."""


def check_names(folder: BundleFolder, files: Mapping[str, FileEntry], present: Mapping[str, int]) -> None:
    """Compares names and sizes of files with a manifest; reads no file.

    Args:
        files: the manifest's entries.
        present: name -> size of every file, without the manifest and the signature.

    Raises:
        BundleError: a file is missing, unlisted, too large or of another size.
    """
    for name in sorted(present.keys() - files.keys()):
        raise BundleError(
            f"{folder.path} holds {shown(name)}, which its manifest does not list.",
            hint="Remove it, or fetch the bundle again.",
        )
    for name, entry in files.items():
        if name not in present:
            raise BundleError(f"{folder.path / name} is missing.", hint=AGAIN)
        if present[name] != entry.size:
            raise altered(folder, name)
        if entry.size > size_limit(name):
            raise BundleError(f"{folder.path / name} is larger than {size_limit(name) >> 20} MB, which no such file is.")


def check_contents(folder: BundleFolder, files: Mapping[str, FileEntry]) -> None:
    """Compares the sha256 of files with a manifest.

    Raises:
        BundleError: a file was altered, is no plain file, or cannot be read.
    """
    for name, entry in files.items():
        digest = hashlib.sha256()
        for block in blocks_of(folder, name, entry.size):
            digest.update(block)
        if digest.hexdigest() != entry.sha256:
            raise altered(folder, name)


def altered(folder: BundleFolder, name: str) -> BundleError:
    """The error for a file whose content is not the one that the manifest lists."""
    return BundleError(f"{folder.path / name} was altered after it was written.", hint=AGAIN)


def size_limit(name: str) -> int:
    """Most bytes that a file of that name may have."""
    return SIZE_LIMITS.get(name, XML_LIMIT if name.endswith(".xml") else 1 << 40)


def blocks_of(folder: BundleFolder, name: str, size: int) -> Iterator[memoryview]:
    """The content of a plain file, block by block; each block is overwritten by the next one.

    Args:
        size: bytes that the file should have; at most one byte more is read.

    Raises:
        BundleError: it is not a plain file, or cannot be read.
    """
    left = size + 1
    with os.fdopen(folder.open(name), "rb", buffering=0) as file:
        block = memoryview(bytearray(min(HASH_BLOCK, left)))
        try:
            while left and (count := file.readinto(block[:left])):
                yield block[:count]
                left -= count
        except OSError as error:
            raise BundleError(f"{folder.path / name} cannot be read: {error.strerror}.") from error


def read_plain_file(folder: BundleFolder, name: str, limit: int) -> bytes:
    """The content of a plain file of at most `limit` bytes.

    Raises:
        BundleError: it is not a plain file, cannot be read, or is larger.
    """
    with os.fdopen(folder.open(name), "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise BundleError(f"{folder.path / name} cannot be read: {error.strerror}.") from error
    if len(data) > limit:
        raise BundleError(f"{folder.path / name} is larger than {limit >> 20} MB, which no such file is.", hint=AGAIN)
    return data
