"""CRC-32C (Castagnoli, RFC 3720) in NumPy: a long text is cut into lanes that are summed side by side and then joined."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, with its bits reversed."""
MASK_DELTA = 0xA282EAD8
"""What LevelDB and TensorFlow add to a checksum that is stored beside what it is of, after a rotation by 15 bits."""
LANES_FROM = 1 << 14
"""Bytes from which on lanes pay."""
Words = npt.NDArray[np.uint32]


def masked_crc32c(content: bytes) -> int:
    """The checksum in the form in which LevelDB and TensorFlow store it."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """The checksum, as of RFC 3720."""
    lanes = 1 << (len(content).bit_length() // 2) if len(content) >= LANES_FROM else 1
    width = len(content) // lanes
    crc = _joined(_of_lanes(np.frombuffer(content, np.uint8, lanes * width).reshape(lanes, width)), width) if lanes > 1 else 0
    return _continued(crc, content[lanes * width :] if lanes > 1 else content)


def _continued(crc: int, content: bytes) -> int:
    """The checksum of bytes that follow on those of a checksum."""
    table, state = _table().tolist(), crc ^ 0xFFFFFFFF
    for byte in content:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


@cache
def _table() -> Words:
    """Remainder of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _of_lanes(lanes: npt.NDArray[np.uint8]) -> Words:
    """The checksum of each row."""
    table, state = _table(), np.full(len(lanes), 0xFFFFFFFF, dtype=np.uint32)
    for column in np.ascontiguousarray(lanes.T):
        state = table[(state ^ column) & 0xFF] ^ state >> np.uint32(8)
    return state ^ np.uint32(0xFFFFFFFF)


def _joined(crcs: Words, width: int) -> int:
    """The checksum of all lanes in a row; their number is a power of two, and each has `width` bytes.

    The checksum of a text and one of n bytes behind it is the first's, moved on by n zero bytes, xor the second's. Moving on is
    linear in the bits: the matrix of twice as many bytes is the square (the way of zlib's crc32_combine).
    """
    move = _moved_by(width)
    while len(crcs) > 1:
        crcs = _applied(move, crcs[0::2]) ^ crcs[1::2]
        move = _applied(move, move)
    return int(crcs[0])


def _moved_by(count: int) -> Words:
    """Images of the 32 bits after `count` zero bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    moved, once = bits, _table()[bits & 0xFF] ^ bits >> np.uint32(8)
    while count:
        moved = _applied(once, moved) if count & 1 else moved
        once, count = _applied(once, once), count >> 1
    return moved


def _applied(matrix: Words, values: Words) -> Words:
    """A linear map, given by the images of the 32 bits, of each value."""
    result: Any = np.zeros_like(values)
    for bit in range(32):
        result ^= np.where(values >> np.uint32(bit) & np.uint32(1), matrix[bit], np.uint32(0))
    return result.astype(np.uint32)  # type: ignore[no-any-return]
