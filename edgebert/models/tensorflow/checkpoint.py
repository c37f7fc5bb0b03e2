"""A checkpoint of TensorFlow in its second form (PREFIX.index and PREFIX.data-00000-of-00001): names, shapes and places.

The index is a table of LevelDB whose values are messages of protobuf: under the empty key the header, under each name a
`BundleEntryProto` (tensorflow/core/protobuf/tensor_bundle.proto). The data files are the values, one tensor after the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgebert.errors import SourceError
from edgebert.models.tensorflow.leveldb_table import read_table, varint
from edgebert.models.tensorflow.stored import StoredArray
from edgebert.models.weight_files import FETCH_AGAIN

DTYPES = {1: "F32", 2: "F64", 14: "BF16", 19: "F16"}
"""Number of a type in types.proto -> its name in safetensors. Others, such as the step's int64, are no weights."""
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Key of checkpoints that name variables by the Python objects that held them."""
Fields = dict[int, list[int | bytes]]
"""Number of a field -> its values, in order."""


def read_checkpoint(index: Path) -> dict[str, StoredArray]:
    """Name -> place of every floating-point tensor.

    Raises:
        SourceError: a file is missing or damaged, or the checkpoint is of a kind that has no names of variables.
    """
    entries = read_table(index)
    if OBJECTS.encode() in entries:
        raise SourceError(
            f"{index} was saved by tf.train.Checkpoint, which names no variables but the Python objects around them.",
            hint="Load the model in TensorFlow and save it with Transformers 4: model.save_pretrained(FOLDER)",
        )
    try:
        shards = _shards(entries.get(b"", b""))
        found = {name.decode(): _fields(entry) for name, entry in entries.items() if name}
        arrays = {name: array for name, entry in found.items() if (array := _array(index, entry, shards)) is not None}
    except (ValueError, IndexError, struct.error, OverflowError) as error:
        raise SourceError(f"{index} is not the index of a TensorFlow checkpoint: {error}.", hint=FETCH_AGAIN) from error
    _require_data(index, arrays)
    return arrays


def _shards(header: bytes) -> int:
    """Number of data files, as the header says."""
    fields = _fields(header)
    if _number(fields, 2):
        raise ValueError("its numbers are big-endian")
    count = _number(fields, 1)
    if not 1 <= count <= 99_999:
        raise ValueError("it has no header")
    return count


def _array(index: Path, entry: Fields, shards: int) -> StoredArray | None:
    """The place of a tensor; None for one that holds no floating-point numbers."""
    dtype = DTYPES.get(_number(entry, 1))
    if dtype is None:
        return None
    if 7 in entry:
        raise ValueError("a variable was saved in slices")
    shard = _number(entry, 3)
    if not 0 <= shard < shards:
        raise ValueError("an entry names a data file that there is not")
    file = index.with_name(f"{index.stem}.data-{shard:05}-of-{shards:05}")
    array = StoredArray(dtype, _shape(entry), file, _number(entry, 4), crc=_number(entry, 6))
    if array.size != _number(entry, 5):
        raise ValueError("an entry has another number of bytes than its shape")
    return array


def _shape(entry: Fields) -> tuple[int, ...]:
    """Sizes of a tensor: a message whose second field is one message an axis, whose first is the size."""
    message = _last(entry, 2, b"")
    axes = _fields(message if isinstance(message, bytes) else b"").get(2, [])
    return tuple(_number(_fields(axis), 1) for axis in axes if isinstance(axis, bytes))


def _require_data(index: Path, arrays: Mapping[str, StoredArray]) -> None:
    for file in sorted({array.file for array in arrays.values()}):
        if not file.is_file():
            raise SourceError(f"{index} is there, but {file.name} is not.", hint="Fetch all files of the checkpoint.")
        held = [array for array in arrays.values() if array.file == file]
        if sum(array.size for array in held) > file.stat().st_size:
            raise SourceError(f"{file} does not hold all that {index.name} names.", hint=FETCH_AGAIN)
    for name, array in arrays.items():
        array.require_inside(name)


def _number(fields: Fields, field: int) -> int:
    value = _last(fields, field, 0)
    if not isinstance(value, int):
        raise ValueError("a field that should be a number is none")
    return value


def _last(fields: Fields, field: int, default: int | bytes) -> int | bytes:
    return fields.get(field, [default])[-1]


def _fields(message: bytes) -> Fields:
    """The fields of a message of protobuf."""
    fields: Fields = {}
    for field, value in _parsed(message):
        fields.setdefault(field, []).append(value)
    return fields


def _parsed(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields number and value of each field: a tag (number and kind), and by its kind a varint, 8, n or 4 bytes."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind, size = tag & 7, {1: 8, 5: 4}.get(tag & 7, 0)
        if kind == 0:
            value, at = varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = varint(message, at)
        elif not size:
            raise ValueError("a message has a field of an unknown kind")
        if at + size > len(message):
            raise ValueError("a message is cut off")
        content = message[at : at + size]
        at += size
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
