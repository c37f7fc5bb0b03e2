"""Finds the files that a graph loads, before any runtime opens it: they must be files that the manifest lists.

An ONNX file may keep tensors in other files, at any path. This module walks the few kinds of protobuf messages that can name
one, in the mapped file: weights are skipped, so that 400 MB take no longer than 4 MB.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from edgebert.bundle.folder import shown
from edgebert.bundle.manifest import inside
from edgebert.errors import BundleError
from edgebert.runtimes import openers

Data = mmap.mmap | bytes
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Kind of ONNX message -> field number -> kind of the message in that field, for all that can lead to external data."""
MARK = b"location"
SMALL = 1 << 16
"""Bytes: a message up to this size is skipped if the word `location` is not in it, because it names no file then."""
NUMBER_BYTES = 10
TAG_BYTES = 5
"""Most bytes of a number, and of a tag or a size. Protobuf libraries cut off larger ones, each in its own way."""
TAG_LIMIT = 1 << 32
SIZE_LIMIT = 1 << 31
DEPTH_LIMIT = 100
"""Levels of messages in messages: the limit of protobuf's own parsers."""


def files_beside(folder: Path, name: str, data: Data, listed: Collection[str]) -> frozenset[str]:
    """The files that a graph loads, by their names in the bundle. A graph that loads other files is refused.

    Args:
        folder: the bundle's folder, for messages.
        name: file of the graph in the bundle; its ending says which runtime it is for.
        data: content of that file.
        listed: names of all files in the manifest.

    Raises:
        BundleError: the graph loads another file, or is not a whole graph.
    """
    found = openers(PurePosixPath(name).suffix)
    container = found[0].container if found else "onnx"  # a file of no runtime is refused with its variant
    if container == "xml":
        return frozenset({_weights_of(folder, name, data, listed)})
    if container == "onnx":
        return frozenset(_listed(folder, name, location, listed) for location in _locations(folder / name, data))
    return frozenset()


def _listed(folder: Path, name: str, location: bytes, listed: Collection[str]) -> str:
    """Name in the bundle of the file at a location beside the graph."""
    try:
        file = (PurePosixPath(name).parent / inside(location.decode())).as_posix()
    except ValueError:
        file = ""
    if file not in listed:
        raise BundleError(
            f"{folder / name} loads {shown(location.decode(errors='replace'))}, which is no file that the manifest lists.",
            hint="Do not use this bundle: whoever made it reaches for files outside.",
        )
    return file


def _weights_of(folder: Path, name: str, data: Data, listed: Collection[str]) -> str:
    """An OpenVINO graph is plain XML without declarations, and its weights are in the .bin beside it."""
    weights = PurePosixPath(name).with_suffix(".bin").as_posix()
    if weights not in listed:
        raise BundleError(f"The manifest of {folder} lists {name}, but not {weights}, which it loads.")
    start = data[:1024]
    if b"\0" in start or not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise BundleError(f"{folder / name} is not XML in UTF-8.")
    if data.find(b"<!DOCTYPE") >= 0 or data.find(b"<!ENTITY") >= 0:
        raise BundleError(f"{folder / name} declares entities, which no OpenVINO graph does.")
    return weights


def _locations(path: Path, data: Data) -> Iterator[bytes]:
    """The file names of all external tensors of an ONNX file."""
    if not data:
        raise BundleError(f"{path} is empty.")
    try:
        yield from _walk(data)
    except (ValueError, IndexError) as error:
        reason = "it ends too soon" if isinstance(error, IndexError) else error
        raise BundleError(f"{path} is not a whole ONNX file: {reason}.") from error


def _walk(data: Data) -> Iterator[bytes]:
    """The file names in all messages that can lead to external data. Without recursion, because the sender chooses the depth.

    Raises:
        ValueError: the bytes are not a protobuf message.
        IndexError: they end too soon.
    """
    waiting = [("model", 0, len(data), 0)]
    while waiting:
        kind, start, end, depth = waiting.pop()
        if depth > DEPTH_LIMIT:
            raise ValueError("its parts are nested too deeply")
        if kind == "entry":
            yield from _entry(data, start, end)
            continue
        inner = MESSAGES[kind]
        for field, first, last in _fields(data, start, end):
            if field in inner and not (last - first <= SMALL and data.find(MARK, first, last) < 0):
                waiting.append((inner[field], first, last, depth + 1))


def _entry(data: Data, start: int, end: int) -> Iterator[bytes]:
    """The value of a key-value pair of a tensor's external data, if its key is `location`."""
    parts = [(field, data[first:last]) for field, first, last in _fields(data, start, end)]
    if any(field == 1 and value == MARK for field, value in parts):
        values = [value for field, value in parts if field == 2]
        yield from values or [b""]


def _fields(data: Data, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each length-delimited field of the message in [position, end); other fields are skipped."""
    while position < end:
        tag, position = _varint(data, position, TAG_BYTES)
        kind, field = tag & 7, tag >> 3
        if tag >= TAG_LIMIT or field == 0:
            raise ValueError("it holds a field whose number is none")
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            size, position = _varint(data, position, TAG_BYTES)
            if size >= SIZE_LIMIT:
                raise ValueError("a part is longer than what it is in")
            position += size
            if position <= end:
                yield field, position - size, position
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError("it holds bytes that are no field")
        if position > end:
            raise ValueError("a part is longer than what it is in")


def _varint(data: Data, position: int, longest: int = NUMBER_BYTES) -> tuple[int, int]:
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while shift < 7 * longest:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise ValueError("a number does not end")
