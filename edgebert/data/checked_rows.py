"""Rows of a file as rows of a task: its columns found, each value read by its kind, and the first unusable rows named."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgebert.core.progress import ProgressStep
from edgebert.data.column_kinds import KINDS, source_of
from edgebert.data.label_columns import LABELS
from edgebert.data.label_match import listed
from edgebert.data.spec import DataSpec
from edgebert.errors import DataError
from edgebert.tasks.base import Column, Task

MAX_FAULTS = 5
SEPARATORS = ";\t|"
"""Separators of tables that are often taken for CSV."""
PreparedRow = dict[str, Any]
"""Column of the task -> str, float, list of str, or None where the row has no such value."""


def columns_of(task: Task, *, labelled: bool) -> list[Column]:
    """The columns that a data set needs or may have."""
    return [column for column in task.columns if labelled or not column.is_label]


def checked_rows(
    rows: Iterable[tuple[int, Mapping[str, Any]]], spec: DataSpec, task: Task, name: str, step: ProgressStep, *, labelled: bool
) -> Iterator[PreparedRow]:
    """The task's columns of each row.

    Args:
        rows: number of each row in its file, from 1, and the row.
        name: the data set, for messages.

    Raises:
        DataError: with the first MAX_FAULTS unusable rows.
    """
    columns = {column.name: column for column in columns_of(task, labelled=labelled)}
    wanted: dict[str, str] | None = None
    absent: set[str] = set()
    first, faults = 1, list[str]()
    for number, row in rows:
        if wanted is None:
            wanted, first = _wanted_columns(spec, task, name, list(row), labelled=labelled), number
            absent = {spec.columns.get(column, column) for column in columns} - {*row}
        try:
            if late := sorted(absent & {*row}):
                raise ValueError(f"`{late[0]}` is there, but row {first} has no such column")
            yield _read_row(row, wanted, columns, task)
        except ValueError as error:
            faults.append(f"row {number}: {error}")
        if len(faults) >= MAX_FAULTS:
            break
        step.advance()
    if faults:
        raise _unusable(name, faults)


def _unusable(name: str, faults: Sequence[str]) -> DataError:
    more = " (and perhaps more)" if len(faults) == MAX_FAULTS else ""
    listed = "\n  ".join(faults)
    counted = f"{len(faults)} unusable row{'s' if len(faults) > 1 else ''}{more}, counted without the header"
    return DataError(f"{name}: {counted}:\n  {listed}", hint="Correct or remove them.")


def _read_row(row: Mapping[str, Any], wanted: Mapping[str, str], columns: Mapping[str, Column], task: Task) -> PreparedRow:
    """Column of the task -> its value. Raises ValueError with the row's fault."""
    values: PreparedRow = {}
    for name, source in wanted.items():
        kind = KINDS[columns[name].kind]
        try:
            values[name] = kind.read(row.get(source))
        except ValueError as fault:
            raise ValueError(f"`{source}` {fault}") from None
        for label in kind.labels(values[name]):
            task.check_label(label)
    task.check_row(values)
    return values


def _wanted_columns(spec: DataSpec, task: Task, name: str, present: list[str], *, labelled: bool) -> dict[str, str]:
    known = {column.name for column in task.columns}
    if strange := sorted(set(spec.columns) - known):
        listed = ", ".join(f"`{column}`" for column in sorted(known))
        raise DataError(
            f"{name}: `{strange[0]}` is no column of {task.name}.",
            hint=f"The left side of `columns` is one of {listed}.",
        )
    if spec.label_columns:
        _check_label_columns(spec, task, name, present)
    wanted: dict[str, str] = {}
    for column in columns_of(task, labelled=labelled):
        source = file_column(column, spec, present)
        if source in present:
            wanted[column.name] = source
        elif (column.required and not _has_other(column, task, spec, present)) or column.name in spec.columns:
            raise _no_column(name, task, column, source, present)
    return wanted


def _check_label_columns(spec: DataSpec, task: Task, name: str, present: Sequence[str]) -> None:
    if task.label_column is None or task.label_column.kind != "labels":
        raise DataError(f"{name} has label_columns, but {task.name} has no sets of labels.", hint="Drop label_columns.")
    if missing := [column for column in spec.label_columns if column not in present]:
        there = listed([f"`{one}`" for one in present if one != LABELS])
        raise DataError(f"{name} has no column `{missing[0]}`; it has {there}.", hint="Correct label_columns.")


def _no_column(name: str, task: Task, column: Column, source: str, present: Sequence[str]) -> DataError:
    hint = f"Say which one holds it: columns: {{{column.name}: NAME}}"
    if second := next((other for other in task.columns if other.kind == column.kind == "text" and not other.required), None):
        hint += f"; of pairs: columns: {{{column.name}: NAME, {second.name}: NAME}}"
    if len(present) == 1 and (separator := next((mark for mark in SEPARATORS if mark in present[0]), None)):
        hint = f"Is the separator another one? delimiter: {json.dumps(separator)}"
    elif present and all(name.isdecimal() for name in present):
        hint = f"Say which one holds it: columns: {{{column.name}: {present[0]}}}"
    elif any(" " in name.strip() for name in present):
        hint += ". Where the first line is a row and names no columns: header: none"
    return DataError(f"{name} has no column `{source}`; it has {listed([f'`{one}`' for one in present])}.", hint=hint)


def file_column(column: Column, spec: DataSpec, present: Collection[str]) -> str:
    """Name of a column in the file: what the recipe says, else as `source_of`."""
    return spec.columns.get(column.name) or source_of(column, present)


def _has_other(column: Column, task: Task, spec: DataSpec, present: Sequence[str]) -> bool:
    """Whether the file has the column that may be there instead."""
    return any(file_column(other, spec, present) in present for other in task.columns if other.name == column.or_else)
