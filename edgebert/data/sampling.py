"""`limit`: rows of a data set drawn by the seed, because the first rows of a file that is sorted by class have few classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgebert.data.column_kinds import KINDS
from edgebert.tasks.base import Column

Rows = Iterator[Mapping[str, Any]]


@dataclass
class Census:
    """What a whole file holds."""

    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """Label -> number of times that it occurs, of the rows whose label can be read."""


def take_census(rows: Rows, column: Column | None, source: str) -> Census:
    """Counts all rows of a file and the labels in them.

    Args:
        column: the task's column with labels; None where none are wanted.
        source: its name in the file.
    """
    census = Census()
    for row in rows:
        census.rows += 1
        if column is not None:
            census.labels.update(_labels_of(row.get(source), column))
    return census


def _labels_of(value: Any, column: Column) -> list[str]:
    kind = KINDS[column.kind]
    try:
        return list(kind.labels(kind.read(value)))
    except ValueError:  # a row that is drawn is named with its fault
        return []


def drawn_rows(read: Callable[[], Rows], count: int, limit: int, seed: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """At most `limit` of a file's `count` rows with their numbers from 1, in the file's order. All where there are not more."""
    chosen = None if limit >= count else {*np.random.default_rng(seed).choice(count, size=limit, replace=False).tolist()}
    left = limit
    for index, row in enumerate(read()):
        if chosen is None or index in chosen:
            yield index + 1, row
            left -= 1
        if not left:
            return
