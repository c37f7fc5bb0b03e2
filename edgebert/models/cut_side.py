"""The side on which a tokenizer.json cuts long texts, and what keys say of it. No torch."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from edgebert.models.json_file import read_json

Side = Literal["left", "right"]


def cut_side(tokenizer: Path) -> Side:
    """The side that loses tokens; right where the file says nothing.

    Raises:
        SourceError: the file is no JSON object.
    """
    status = tokenizer.stat()
    return _cut_side(tokenizer, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _cut_side(tokenizer: Path, changed_ns: int, size: int) -> Side:
    truncation = read_json(tokenizer).get("truncation")
    said = truncation.get("direction") if isinstance(truncation, dict) else None
    return "left" if str(said).lower() == "left" else "right"


def side_key(tokenizer: Path, name: str = "truncation_side") -> dict[str, str]:
    """What a key says of a tokenizer beside its hash: the side, if it is the left one.

    Versions before 0.2 cut on the right whatever the file said, so that their results are not those of the same file today.
    """
    return {name: "left"} if tokenizer.is_file() and cut_side(tokenizer) == "left" else {}
