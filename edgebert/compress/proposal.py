"""What the rows of a data file propose for a recipe: its columns, the labels in it, and the longest input."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.compress.labels import learned_labels
from edgebert.data.checked_rows import columns_of
from edgebert.data.column_kinds import source_of
from edgebert.data.first_rows import FirstRows, first_rows
from edgebert.data.prepared import is_labelled
from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.models.folder import ModelFolder
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Column, Task

LOOKED_AT = 200
"""Rows by whose values a column without a telling name is guessed."""
MOST = 200_000
"""Rows that are read for labels and lengths."""
TOKENISED = 2000
SHARE, STEP, LEAST = 0.99, 8, 16
"""Share of the texts that a proposed longest input holds; its multiple and the least of it, in tokens."""
LABEL_NAMES = ("labels", "class", "category", "target", "sentiment", "intent", "stars", "score", "y", "gold", "answer")
MOST_LABELS = 0.5
"""Share of the rows that have labels of their own at most, in a column that is guessed to hold labels."""


@dataclass(frozen=True)
class Proposal:
    """What a data file proposes."""

    columns: dict[str, str]
    """The task's column -> the file's, as far as it was found."""
    guessed: tuple[str, ...]
    """The task's columns that no name tells: their values look like it."""
    present: tuple[str, ...]
    """All columns of the file."""
    absent: tuple[str, ...]
    """The task's columns that were not found."""
    found: FirstRows | None
    """Its rows; None where columns are missing."""


def propose(path: Path, role: str, task: Task) -> Proposal:
    """Reads a data file.

    Args:
        path: absolute.
        role: `train` or `eval`.

    Raises:
        DataError: it cannot be read, or has rows that cannot be used.
    """
    rows = list(itertools.islice(read_rows(DataSpec(path=str(path)), path), LOOKED_AT))
    present = tuple(rows[0]) if rows else ()
    columns, guessed, absent = dict[str, str](), list[str](), list[str]()
    for column in columns_of(task, labelled=is_labelled(role)):
        if (source := source_of(column, present)) in present:
            columns[column.name] = source
        elif column.required and column.or_else not in present:
            free = [name for name in present if name not in columns.values() and not _is_taken(name, task)]
            if name := _guess(column, free, rows):
                columns[column.name] = name
                guessed.append(column.name)
            else:
                absent.append(column.name)
    if absent and rows:
        return Proposal(columns, tuple(guessed), present, tuple(absent), None)
    spec = DataSpec(path=str(path), columns=columns)
    return Proposal(columns, tuple(guessed), present, (), first_rows(spec, role, base=path.parent, task=task, most=MOST))


def _is_taken(name: str, task: Task) -> bool:
    """Whether a name of the file is that of one of the task's columns."""
    return any(name in (column.name, *column.other_names) for column in task.columns)


def _guess(column: Column, free: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column of a file whose values look like those of a task's column; None where none does."""
    if column.kind == "text":
        lengths = {name: np.mean([len(str(row.get(name) or "")) for row in rows]) for name in free if _is_text(name, rows)}
        return max(lengths, key=lambda name: lengths[name], default=None)
    if column.kind != "label":
        return None
    if named := next((name for known in LABEL_NAMES for name in free if name.lower() == known), None):
        return named
    counts = {name: len({str(row.get(name)) for row in rows}) for name in free}
    few = {name: count for name, count in counts.items() if 1 < count <= max(2, MOST_LABELS * len(rows))}
    return min(few, key=lambda name: few[name], default=None)


def _is_text(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(name) for row in rows]
    return all(isinstance(value, str) for value in values) and not all(str(value).isdecimal() for value in values)


def proposed_labels(found: FirstRows) -> tuple[str, ...]:
    """The labels of a head that is trained on these rows; empty where the file has more rows, whose labels are not known."""
    return learned_labels(found) if found.is_all else ()


def proposed_length(found: FirstRows, model: ModelFolder, task: Task, labels: Sequence[str]) -> int | None:
    """Tokens that hold SHARE of the texts, rounded up, within what the model takes; None without a tokenizer.json.

    Raises:
        BundleError: the tokenizer cannot be used.
    """
    file = model.path / "tokenizer.json"
    if not file.is_file():
        return None
    serving = Serving(task, tuple(labels), model.max_length(), 0, file)
    step = -(-len(found.rows) // TOKENISED)
    lengths = [len(item) for item in serving.encode(serving.open_tokenizer(), found.rows[::step])]
    longest = int(np.quantile(lengths, SHARE, method="higher"))
    return min(max(-(-longest // STEP) * STEP, LEAST), model.max_length())
