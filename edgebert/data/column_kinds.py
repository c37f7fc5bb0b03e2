"""Kinds of columns: how a value of a file becomes a value of a prepared set, and which labels it holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.tasks.base import Column, Kind

MAX_CHARACTERS = 1_000_000
MAX_WORDS = 100_000
MISSING_MARKS = ("nan", "NaN")  # what pandas and numpy write for a missing value


@dataclass(frozen=True)
class ColumnKind:
    """One kind of column."""

    is_list: bool
    """Whether a value is a list of texts, and not one text."""
    read: Callable[[Any], Any]
    """Value of a file -> value of the prepared set. Raises ValueError with the fault, to follow the column's name."""
    labels: Callable[[Any], Sequence[str]]
    """Value of the prepared set -> the labels in it."""


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    if _missing(value):
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"is not text but {type(value).__name__}")
    if not value.strip():
        raise ValueError("is empty")
    if value.strip() in MISSING_MARKS:
        raise ValueError(f"is {value.strip()!r}, which is how pandas writes a missing value")
    if len(value) > MAX_CHARACTERS:
        hint = "a quote that never closes, or lines that were joined?"
        raise ValueError(f"has {len(value):,} characters (at most {MAX_CHARACTERS:,}): {hint}")
    return value


def _label(value: Any) -> str:
    if isinstance(value, bool | int | float) and not _missing(value):
        return str(int(value)) if float(value).is_integer() else str(value)
    return _text(value).strip()


def _items(value: Any) -> list[Any]:
    if _missing(value):
        raise ValueError("is missing")
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list but {type(value).__name__}: write it as a JSON list, or as CoNLL")
    if not value:
        raise ValueError("is an empty list")
    if len(value) > MAX_WORDS:
        raise ValueError(f"has {len(value):,} entries (at most {MAX_WORDS:,}): sentences that were joined?")
    return list(value)


def _words(value: Any) -> list[str]:
    words = _items(value)
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise ValueError(f"has word {number} that is not text but {type(word).__name__}")
        if not word.strip():
            raise ValueError(f"has word {number} that is empty")
    return words


def _tags(value: Any) -> list[str]:
    tags = []
    for number, tag in enumerate(_items(value), start=1):
        try:
            tags.append(_label(tag))
        except ValueError as fault:
            raise ValueError(f"has tag {number} that {fault}") from None
    return tags


KINDS: dict[Kind, ColumnKind] = {
    "text": ColumnKind(False, _text, lambda value: ()),
    "words": ColumnKind(True, _words, lambda value: ()),
    "label": ColumnKind(False, _label, lambda value: (value,)),
    "tags": ColumnKind(True, _tags, lambda value: value),
}
"""Kind -> how its values are read."""


def source_of(column: Column, present: Collection[str]) -> str:
    """Name of a column in a file: its own, else one that data sets often give it.

    Args:
        present: names of the file's columns.
    """
    return next((name for name in (column.name, *column.other_names) if name in present), column.name)
