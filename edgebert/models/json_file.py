"""JSON files of a model folder, read up to a size: a parsed file takes some twenty times its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError

LIMIT = 64 << 20
"""Bytes of any JSON file; the tokenizer of the largest vocabulary in use has 35 MiB."""
SMALLER = {"config.json": 4 << 20, "tokenizer_config.json": 16 << 20, "adapter_config.json": 4 << 20}
"""Bytes of files that are always smaller, by name."""
REWRITE = "Correct it, or take the one that save_pretrained() wrote."


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
        SourceError: the file cannot be read, is too large, or does not hold a JSON object.
    """
    value = _read(path)
    if not isinstance(value, dict):
        raise SourceError(f"{path} does not hold a JSON object.", hint=REWRITE)
    return value


def read_list(path: Path) -> list[Any]:
    """Reads a JSON list from a file.

    Raises:
        SourceError: the file cannot be read, is too large, or does not hold a JSON list.
    """
    value = _read(path)
    if not isinstance(value, list):
        raise SourceError(f"{path} does not hold a JSON list.", hint=REWRITE)
    return value


def _read(path: Path) -> Any:
    limit = SMALLER.get(path.name, LIMIT)
    try:
        if path.stat().st_size > limit:
            raise SourceError(f"{path} has more than {limit >> 20} MiB, which no such file needs.", hint=REWRITE)
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON.", hint="It may be a partial download: fetch it again.") from error
