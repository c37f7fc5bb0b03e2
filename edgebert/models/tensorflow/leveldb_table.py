"""A table of LevelDB, as the .index of a TensorFlow checkpoint is one: sorted keys with values, in blocks with checksums.

A file is blocks and a footer of 48 bytes, which has the places of two of them: the metaindex, and the index, whose values are
the places of the blocks with the entries. A block is entries, offsets of entries where no key is shortened, and their number;
behind it stand its compression (one byte) and a masked CRC-32C (github.com/google/leveldb, doc/table_format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from edgebert.errors import SourceError
from edgebert.models.tensorflow.crc32c import masked_crc32c
from edgebert.models.weight_files import FETCH_AGAIN

MAGIC = 0xDB4775248B80FB57
FOOTER, TRAILER = 48, 5
MOST_BYTES = 64 << 20
"""Bytes of a table; that of BERT-large has 30 KiB."""
MOST_ENTRIES = 100_000


def read_table(file: Path) -> dict[bytes, bytes]:
    """Every key of a table with its value.

    Raises:
        SourceError: the file is no such table, is damaged, or is too large to be one of a checkpoint.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
        return _entries(file.read_bytes())
    except (ValueError, IndexError, struct.error, OSError) as error:
        raise SourceError(f"{file} is not a whole index of a TensorFlow checkpoint: {error}.", hint=FETCH_AGAIN) from error


def _entries(content: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for _, place in _of_block(_block(content, *_index_place(content))):
        offset, at = varint(place, 0)
        for key, value in _of_block(_block(content, offset, varint(place, at)[0])):
            if key in found or len(found) >= MOST_ENTRIES:
                raise ValueError("it has the same key twice, or too many")
            found[key] = value
    return found


def _index_place(content: bytes) -> tuple[int, int]:
    """Offset and size of the index."""
    footer = content[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its last bytes are not those of one")
    at = varint(footer, varint(footer, 0)[1])[1]  # behind the place of the metaindex
    offset, at = varint(footer, at)
    return offset, varint(footer, at)[0]


def _block(content: bytes, offset: int, size: int) -> bytes:
    """The entries of a block and its restarts, which have the checksum that stands behind them."""
    if offset + size + TRAILER > len(content) - FOOTER:
        raise ValueError("a block lies outside of it")
    block, kind = content[offset : offset + size], content[offset + size]
    if masked_crc32c(content[offset : offset + size + 1]) != struct.unpack_from("<I", content, offset + size + 1)[0]:
        raise ValueError("a block does not have its checksum")
    if kind:
        raise ValueError("a block is compressed, which TensorFlow never does")
    return block


def _of_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry. A key is given as the number of bytes that it shares with the one before, and the rest."""
    end = len(block) - 4 - 4 * struct.unpack_from("<I", block, len(block) - 4)[0]
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        rest, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + rest + size > end:
            raise ValueError("an entry reaches over the end of its block")
        key = key[:shared] + block[at : at + rest]
        at += rest + size
        yield key, block[at - size : at]


def varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the index behind it.

    Raises:
        ValueError: it has more than 64 bits.
        IndexError: the bytes end before it does.
    """
    value = 0
    for shift in range(0, 64, 7):
        value |= (content[at] & 0x7F) << shift
        at += 1
        if content[at - 1] < 0x80:
            return value, at
    raise ValueError("a number has more than 64 bits")
