"""Reads CSV, TSV, JSON Lines and CoNLL row by row, and checks that a file is text: with the standard library alone, as on a
device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.data.delimited import own_separator, quoted_as_pandas, read_delimited
from edgebert.data.json_values import read_json_lines
from edgebert.data.text_open import PACKED, check_file, lines_of, open_text, require_file
from edgebert.errors import DataError

__all__ = [
    "check_file",
    "ending_of",
    "open_text",
    "own_separator",
    "quoted_as_pandas",
    "read_conll",
    "read_delimited",
    "read_json_lines",
    "require_file",
]


def ending_of(path: Path) -> str:
    """The ending that says a file's format, in small letters: `.csv` of `a.csv.gz`."""
    whole = path.suffix.lower()
    return Path(path.stem).suffix.lower() if whole == PACKED else whole


def read_conll(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a CoNLL file: one row a sentence, with `words` and `tags` from the first and the last column of its lines."""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                yield {"words": words, "tags": tags}
            words, tags = [], []
            continue
        parts = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()  # a word may hold other blanks
        if len(parts) < 2:
            raise DataError(f"{path}, line {number}: needs a word and a tag, has {line.strip()[:80]!r}.")
        words.append(parts[0].strip())
        tags.append(parts[-1].strip())
    if words:
        yield {"words": words, "tags": tags}
