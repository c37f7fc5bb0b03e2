"""JSON files read in bounded time and memory, whatever they hold: pipes, devices, bombs, endless nesting and numbers."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LARGEST_BYTES = 250_000_000
"""10^7 packed samples take 43 MB, the same as a list 120 MB."""
MOST_VALUES = 12_000_000
"""Most commas: a number of a list takes 40 bytes of memory, whatever it takes in the file."""
MOST_CONTAINERS = 2_000_000
"""Most objects and lists: an empty one takes 2 bytes in the file and 60 in memory."""
DEEPEST = 40
"""Most objects and lists within one another; the files of edgebert have 10 at most."""
LARGEST_NUMBER = 2.0**63


def read_plain(path: Path) -> bytes:
    """The bytes of a plain file. Opening a pipe or a device does not wait for anybody.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plain file, or too large; the message is a clause.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is not a file")
    with os.fdopen(handle, "rb") as file:
        raw = file.read(LARGEST_BYTES + 1)
    if len(raw) > LARGEST_BYTES:
        raise ValueError(f"it is larger than {LARGEST_BYTES / 1e6:.0f} MB")
    return raw


def parse(raw: bytes) -> Any:
    """Parsed JSON whose numbers are finite and below 2^63.

    Raises:
        ValueError: it is no such JSON, or too much of it; the message is a clause.
    """
    if raw.count(b",") > MOST_VALUES or raw.count(b"[") + raw.count(b"{") > MOST_CONTAINERS:
        raise ValueError(f"it has more than {MOST_VALUES} values or {MOST_CONTAINERS} lists")
    try:
        content = json.loads(raw)
    except RecursionError:
        raise ValueError(f"it has more than {DEEPEST} levels") from None
    except ValueError as error:
        endless = "digits" in str(error)  # Python's own bound on the text of an integer
        raise ValueError("it holds a number beyond 2^63" if endless else "it ends too early, or is not JSON") from None
    _check(content)
    return content


def _check(content: Any) -> None:
    """Looks at every value without recursion. Raises ValueError where one is too deep or too large."""
    left: list[tuple[str, int, Any]] = [("", 0, content)]
    while left:
        name, level, item = left.pop()
        if level > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} levels")
        if isinstance(item, list) and {*map(type, item)} == {int}:  # millions of samples
            item = [min(item), max(item)]
        for key, part in _parts(name, item):
            if isinstance(part, dict | list):
                left.append((key, level + 1, part))
            elif isinstance(part, int | float):
                _check_number(key, part)


def _parts(name: str, item: Any) -> Iterable[tuple[str, Any]]:
    """The values in an object or a list, each with the name that it has, or that its list has."""
    if isinstance(item, dict):
        return item.items()
    return ((name, part) for part in (item if isinstance(item, list) else [item]))


def _check_number(name: str, value: float) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: it is not a finite number")
    if abs(value) > LARGEST_NUMBER:
        raise ValueError(f"{name}: it is a number beyond 2^63")
