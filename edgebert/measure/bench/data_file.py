"""The texts that bench asks, from a file that the user names: which of its columns are meant, and at most how many rows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.files import local_path
from edgebert.data.column_kinds import KINDS, source_of
from edgebert.data.text_files import (
    check_file,
    ending_of,
    open_text,
    own_separator,
    quoted_as_pandas,
    read_conll,
    read_delimited,
    read_json_lines,
    require_file,
)
from edgebert.errors import DataError, InputError
from edgebert.tasks import TASKS
from edgebert.tasks.base import Column, Row, Task

MOST_ROWS = 100_000
"""Most rows that are read of a file; more would only fill the memory."""
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "txt",
    ".conll": "conll",
    ".bio": "conll",
}


@dataclass(frozen=True)
class DataFile:
    """A file of texts, and the columns to use: by default those with the names of the task's columns."""

    path: Path
    columns: tuple[str, ...] = ()
    label: str | None = None

    @classmethod
    def parse(cls, text: str, label: str | None = None) -> DataFile:
        """`FILE`, `FILE:COLUMN` or, for pairs, `FILE:COLUMN,COLUMN`.

        Raises:
            DataError: there is no such file.
        """
        whole = local_path(text, Path.cwd()).is_file()
        name, columns = (text, "") if whole or ":" not in text else text.rsplit(":", 1)
        path = local_path(name, Path.cwd())
        if path.exists() and not path.is_dir():
            require_file(path)
        if not path.is_file():
            raise DataError(f"There is no data file {name}.", hint="--data FILE, or --data FILE:COLUMN")
        return cls(path, tuple(filter(None, columns.split(","))), label)

    def rows(self, task: Task = TASKS[0]) -> list[Row]:
        """Rows with the task's columns, in the file's order; `label`, as the file writes it, where a label column was named.

        Raises:
            DataError: the file cannot be read, lacks a column or has an empty text.
        """
        return list(_rows_of(self, task)[:MOST_ROWS])

    def is_cut(self, task: Task = TASKS[0]) -> bool:
        """Whether the file has more rows than are read."""
        return len(_rows_of(self, task)) > MOST_ROWS

    def _read(self, task: Task) -> list[Row]:
        check_text(self.path)
        kind = FORMATS.get(ending_of(self.path))
        if kind is None:
            raise DataError(f"{self.path}: the ending says nothing of its format.", hint=f"Known: {', '.join(FORMATS)}.")
        if kind == "txt":
            return self._lines(task)
        if kind == "conll":
            return self._chosen(read_conll(self.path), task)
        if kind == "jsonl":
            return self._chosen(read_json_lines(self.path), task)
        separator = own_separator(self.path) or ("\t" if kind == "tsv" else ",")
        quotes = kind == "csv" or quoted_as_pandas(self.path, separator)
        return self._chosen(read_delimited(self.path, separator, quotes=quotes), task)

    def _lines(self, task: Task) -> list[Row]:
        if self.columns or self.label:
            raise DataError(
                f"{self.path} has no columns: every line is a text.", hint="Name the file alone, or a .tsv or .csv."
            )
        with open_text(self.path, newline="\n") as file:
            lines = (line.rstrip("\r\n") for line in file)
            rows = [task.row_of(line) for line in itertools.islice(filter(str.strip, lines), MOST_ROWS + 1)]
        return self._some(rows)

    def _chosen(self, source: Iterator[Mapping[str, Any]], task: Task) -> list[Row]:
        rows: list[Row] = []
        wanted: dict[str, str] = {}
        for number, row in enumerate(itertools.islice(source, MOST_ROWS + 1), start=1):
            wanted = wanted or self._wanted(row, task)
            values = {name: self._value(row.get(column), task, name, column, number) for name, column in wanted.items()}
            rows.append(self._checked(values, task, number))
        return self._some(rows)

    def _wanted(self, row: Mapping[str, Any], task: Task) -> dict[str, str]:
        """Column of the task -> column of the file, whose first row is given."""
        present = list(row)
        own = self._own_columns(row, task)
        if len(self.columns) > len(own):
            names = " and ".join(column.name for column in own)
            raise InputError(f"--data names {len(self.columns)} columns, but {task.name} takes {names}.")
        wanted = dict(zip([column.name for column in own], self.columns, strict=False))
        if not self.columns:
            found = {column.name: source_of(column, present) for column in own}
            wanted = {column.name: found[column.name] for column in own if column.required or found[column.name] in present}
        wanted.update({task.label_column.name: self.label} if self.label and task.label_column else {})
        for column in wanted.values():
            if column not in present:
                shown = ", ".join(f"`{name}`" for name in present)
                option = "--label COLUMN" if column == self.label else f"--data {self.path}:COLUMN"
                raise DataError(f"{self.path} has no column `{column}`; it has {shown}.", hint=f"Say which holds it: {option}")
        return wanted

    def _checked(self, row: Row, task: Task, number: int) -> Row:
        try:
            task.check_row(row)
        except ValueError as fault:
            raise DataError(f"{self.path}, row {number}: {fault}.", hint="Correct or remove the row.") from None
        return row

    def _own_columns(self, row: Mapping[str, Any], task: Task) -> list[Column]:
        """The columns that go into the model. Of two that may stand for each other, the one that the first row has."""
        own = {column.name: column for column in task.columns if not column.is_label}
        for column in list(own.values()):
            if column.or_else:
                source = self.columns[0] if self.columns else source_of(column, row)
                there = source in row and isinstance(row[source], list) == KINDS[column.kind].is_list
                del own[column.or_else if there else column.name]
        return list(own.values())

    def _value(self, value: Any, task: Task, name: str, column: str, number: int) -> Any:
        kind = next(own.kind for own in task.columns if own.name == name)
        try:
            return KINDS[kind].read(value)
        except ValueError as fault:
            raise DataError(f"{self.path}, row {number}: `{column}` {fault}.", hint="Correct or remove the row.") from None

    def _some(self, rows: list[Row]) -> list[Row]:
        if not rows:
            raise DataError(f"{self.path} has no rows.", hint="Name a file with texts.")
        return rows


@functools.lru_cache(maxsize=2)
def _rows_of(file: DataFile, task: Task) -> tuple[Row, ...]:
    """All rows of a file; one more than are used, where there are more."""
    return tuple(file._read(task))


def check_text(path: Path) -> None:
    """Raises DataError where a file is empty or not UTF-8 text."""
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.", hint="Name a file with lines.")
    check_file(path, text=True)
