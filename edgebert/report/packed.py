"""Arrays of 8-byte numbers as text: bytes shuffled, deflated, base64. Read in bounded memory, whatever a file holds."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

MOST = 25_000_000
"""Most numbers in one list, and in all packed lists of a file, so that a file that claims more cannot fill the memory."""


def pack(values: npt.NDArray[Any]) -> str:
    """An array of 8-byte numbers, little-endian, of shape (count,): the first bytes of all, then the second, and so on."""
    shuffled = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8).T.tobytes()
    return base64.b64encode(zlib.compress(shuffled, 6)).decode("ascii")


def unpack(form: dict[str, Any], encoding: str, dtype: str) -> npt.NDArray[Any]:
    """Reads `{count, encoding, data}`, and never inflates more bytes than `count` allows.

    Raises:
        ValueError: it is not that form, or does not hold `count` numbers.
    """
    count, data = form.get("count"), form.get("data")
    if set(form) != {"count", "encoding", "data"} or form["encoding"] != encoding or not isinstance(data, str):
        raise ValueError(f"samples are neither a list nor packed as {encoding}")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST:
        raise ValueError(f"the count of samples is not a whole number from 0 to {MOST}")
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(base64.b64decode(data, validate=True), 8 * count + 1)  # 0 would mean no limit
    except (binascii.Error, zlib.error) as error:
        raise ValueError("packed samples are damaged") from error
    if len(raw) != 8 * count or not inflate.eof or inflate.unused_data:
        raise ValueError(f"packed samples do not hold the {count} that they say")
    return np.frombuffer(raw, np.uint8).reshape(8, count).T.copy().view(dtype).reshape(count)


def packed_count(content: Any) -> int:
    """Number of samples that all packed lists within parsed JSON claim to hold."""
    claimed, left = 0, [content]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            count = item.get("count")
            claimed += max(count, 0) if "encoding" in item and isinstance(count, int) else 0
            left += item.values()
        elif isinstance(item, list):
            left += [part for part in item if isinstance(part, dict | list)]
    return claimed
