"""Arrays of an HDF5 file, by their paths. h5py reads the file's structure; the values are read from their places.

Only what Keras writes is followed: groups and arrays that stand in the file itself, whose values lie in a row. A link, a value
in another file, a compressed array and a virtual one are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.errors import MissingPackage, SourceError
from edgebert.models.tensorflow.stored import StoredArray
from edgebert.models.weight_files import FETCH_AGAIN

DTYPES = {"<f2": "F16", "<f4": "F32", "<f8": "F64"}
MOST_OBJECTS = 20_000
"""Groups and arrays of a file; a BERT-large has some 1,500. A group that contains itself never ends."""
MOST_LEVELS = 24


def read_hdf5(file: Path) -> dict[str, StoredArray]:
    """Path in the file -> place of every array of floating-point numbers.

    Raises:
        SourceError: it is no such file, is damaged, or has parts that Keras does not write.
        MissingPackage: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingPackage("h5py", needed_for=f"Reading {file}") from error
    try:
        with h5py.File(file, "r") as opened:
            found = {name: _array(file, name, data) for name, data in _arrays(h5py, opened)}
    except SourceError:
        raise
    except Exception as error:  # h5py has as many kinds as HDF5 has faults
        first = (str(error).splitlines() or [""])[0][:120]
        raise SourceError(f"{file} is not a whole HDF5 file ({first}).", hint=FETCH_AGAIN) from error
    arrays = {name: array for name, array in found.items() if array is not None}
    if sum(array.size for array in arrays.values()) > file.stat().st_size:
        raise SourceError(f"{file} names the same values several times, as no model does.", hint=FETCH_AGAIN)
    return arrays


def _arrays(h5py: Any, opened: Any) -> Iterator[tuple[str, Any]]:
    """Yields the path of each array with the array."""
    waiting, seen = [("", opened)], 0
    while waiting:
        start, group = waiting.pop()
        if start.count("/") > MOST_LEVELS:
            raise SourceError(f"{opened.filename} has groups in groups without an end.", hint=FETCH_AGAIN)
        for name in group:
            seen += 1
            if seen > MOST_OBJECTS:
                raise SourceError(f"{opened.filename} has more than {MOST_OBJECTS} parts, as no model has.", hint=FETCH_AGAIN)
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _foreign(opened.filename, f"{start}{name}", "is a link to another place")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((f"{start}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                yield f"{start}{name}", item


def _array(file: Path, name: str, data: Any) -> StoredArray | None:
    """The place of an array; None for one that holds no floating-point numbers."""
    dtype = DTYPES.get(data.dtype.str)
    if dtype is None:
        return None
    if data.is_virtual or data.external or data.chunks is not None:
        raise _foreign(file, name, "lies in another file, or in pieces")
    offset = data.id.get_offset()
    if offset is None:
        raise _foreign(file, name, "has no values, or none that lie in a row")
    array = StoredArray(dtype, tuple(map(int, data.shape)), file, int(offset))
    array.require_inside(name)
    return array


def _foreign(file: Any, name: str, what: str) -> SourceError:
    return SourceError(f"{file}: {name[:80]} {what}, which Keras never writes.", hint=FETCH_AGAIN)
