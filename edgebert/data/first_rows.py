"""The first rows of a data file, read before any work: its columns, and whether rows can be used at all."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.core.progress import Silent
from edgebert.data.arrow_files import is_saved
from edgebert.data.checked_rows import PreparedRow, checked_rows, file_column
from edgebert.data.class_names import class_names
from edgebert.data.column_kinds import KINDS
from edgebert.data.label_match import match_labels
from edgebert.data.prepared import data_path, is_labelled, set_name
from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.data.text_open import require_file
from edgebert.errors import DataError
from edgebert.tasks.base import Task

MOST = 1000
"""Rows that are looked at."""


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a file, with the task's columns."""

    rows: list[PreparedRow]
    labels: dict[str, int]
    """Label -> number of times that it occurs in them."""
    own_names: tuple[str, ...]
    """The names that the file gives the numbers in its label column."""
    is_all: bool
    """Whether the file has no more rows."""


def first_rows(spec: DataSpec, role: str, *, base: Path, task: Task, most: int = MOST) -> FirstRows:
    """Reads the first rows of a file and checks them as a run does.

    Args:
        spec: a data set that is a file.
        role: `train`, `eval`, `calibration` or `transfer`; names it in messages, and the last two need no labels.
        base: the folder that relative paths count from.

    Raises:
        DataError: there is no such file, it lacks a column, or its first rows cannot be used.
    """
    path, labelled = data_path(spec, base), is_labelled(role)
    if not is_saved(path):
        require_file(path)
    numbered = enumerate(itertools.islice(read_rows(spec, path), most), start=1)
    with Silent().step("") as step:
        rows = list(checked_rows(numbered, spec, task, set_name(spec, role, base), step, labelled=labelled))
    if not rows:
        raise DataError(f"{set_name(spec, role, base)} has no rows.", hint="Name a file with rows.")
    column = task.label_column if labelled else None
    names = class_names(spec, path)
    read = KINDS[column.kind].labels if column else lambda value: ()
    labels = Counter(label for row in rows if column and column.name in row for label in read(row[column.name]))
    own = names.get(file_column(column, spec, names), ()) if column else ()
    return FirstRows(rows, dict(sorted(labels.items())), own, len(rows) < most)


def check_first_rows(spec: DataSpec, role: str, *, base: Path, task: Task, labels: Sequence[str]) -> None:
    """Checks the first rows of a file, and of a file that has no more rows its labels as well.

    Args:
        labels: the model's labels; empty where they are not known yet.

    Raises:
        DataError: the file cannot be used.
    """
    found = first_rows(spec, role, base=base, task=task)
    if found.is_all and found.labels and labels:  # some of a file's labels can look as if they meant two things
        what = "tag" if task.label_column and task.label_column.kind == "tags" else "label"
        match_labels(found.labels, labels, found.own_names, subject=f"data.{role}", what=what)
