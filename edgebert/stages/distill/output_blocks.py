"""Blocks of teacher outputs: which rows are of which examples, and whether those of a killed run are as it wrote them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgebert.stages.distill.pooled import POOLED
from edgebert.tasks.base import Task

LOGITS = "logits"
Halfs = npt.NDArray[np.float16]
Offsets = npt.NDArray[np.int64]


def of_tokens(name: str, task: Task) -> bool:
    """Whether an output has a row for each token, and not one for the example."""
    return task.of_tokens if name == LOGITS else not name.startswith(POOLED)


def rows_of(name: str, offsets: Offsets, start: int, stop: int, task: Task) -> slice:
    """The rows of some examples in an array."""
    return slice(int(offsets[start]), int(offsets[stop])) if of_tokens(name, task) else slice(start, stop)


def hash_of(arrays: Mapping[str, Halfs], offsets: Offsets, start: int, stop: int, task: Task) -> str:
    """sha256 over what all arrays hold of some examples."""
    digest = hashlib.sha256(f"{start} {stop}".encode())
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name][rows_of(name, offsets, start, stop, task)]).data)
    return digest.hexdigest()


def whole_blocks(
    record: Path, blocks: Iterable[tuple[int, int]], arrays: Mapping[str, Halfs], offsets: Offsets, task: Task
) -> list[str]:
    """Hashes of the blocks that a killed run had finished, up to the first whose bytes are others by now."""
    try:
        kept = list(json.loads(record.read_text())["blocks"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or a power cut left half a record
        return []
    found = zip(blocks, kept, strict=False)
    whole = itertools.takewhile(lambda block: hash_of(arrays, offsets, *block[0], task) == block[1], found)
    return [digest for _, digest in whole]
