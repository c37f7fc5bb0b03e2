"""Columns of 0 and 1, each of which is a label, read as one column of label sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LABELS = "labels"
"""The column that they become."""
FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
"""A value as text, in small letters -> whether the row has the label."""


def joined_labels(rows: Iterator[dict[str, Any]], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows with their label columns as one mapping, column -> value, in `labels`; unchanged without such columns."""
    for row in rows:
        yield {**row, LABELS: {column: row.get(column) for column in columns}} if columns else row


def labels_among(flags: Mapping[str, Any]) -> list[str]:
    """The labels that a row has.

    Args:
        flags: label -> 0 or 1, as a number, a bool or text.

    Raises:
        ValueError: a value is none of these, with the fault, to follow the column's name.
    """
    found = []
    for label, value in flags.items():
        flag = FLAGS.get(str(value).strip().lower())
        if flag is None:
            raise ValueError(f"has {str(value)[:60]!r} for the label {label!r}, not 0 or 1")
        found += [label] if flag else []
    return found
