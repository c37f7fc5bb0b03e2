"""The texts that bench asks, from a file that the user names: which of its columns are meant, and at most how many rows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.files import local_path
from edgebert.data.text_files import check_file, read_delimited, read_json_lines
from edgebert.errors import DataError, InputError
from edgebert.tasks import TASKS
from edgebert.tasks.base import Row, Task

MOST_ROWS = 100_000
"""Most rows that are read of a file; more would only fill the memory."""
FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "txt"}


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
        kind = FORMATS.get(self.path.suffix.lower())
        if kind is None:
            raise DataError(f"{self.path}: the ending says nothing of its format.", hint=f"Known: {', '.join(FORMATS)}.")
        if kind == "txt":
            return self._lines(task)
        if kind == "jsonl":
            return self._chosen(read_json_lines(self.path), task)
        return self._chosen(read_delimited(self.path, "\t" if kind == "tsv" else ",", quotes=kind == "csv"), task)

    def _lines(self, task: Task) -> list[Row]:
        if self.columns or self.label:
            raise DataError(
                f"{self.path} has no columns: every line is a text.", hint="Name the file alone, or a .tsv or .csv."
            )
        with self.path.open(encoding="utf-8-sig", newline="\n") as file:
            lines = (line.rstrip("\r\n") for line in file)
            rows = [task.row_of(line) for line in itertools.islice(filter(str.strip, lines), MOST_ROWS + 1)]
        return self._some(rows)

    def _chosen(self, source: Iterator[Mapping[str, Any]], task: Task) -> list[Row]:
        rows: list[Row] = []
        wanted: dict[str, str] = {}
        for number, row in enumerate(itertools.islice(source, MOST_ROWS + 1), start=1):
            wanted = wanted or self._wanted(list(row), task)
            rows.append({name: self._text(row.get(column), column, number) for name, column in wanted.items()})
        return self._some(rows)

    def _wanted(self, present: Sequence[str], task: Task) -> dict[str, str]:
        """Column of the task -> column of the file."""
        own = [column for column in task.columns if not column.is_label]
        if len(self.columns) > len(own):
            names = " and ".join(column.name for column in own)
            raise InputError(f"--data names {len(self.columns)} columns, but {task.name} takes {names}.")
        wanted = dict(zip([column.name for column in own], self.columns, strict=False))
        if not self.columns:
            wanted = {column.name: column.name for column in own if column.required or column.name in present}
        wanted.update({"label": self.label} if self.label else {})
        for column in wanted.values():
            if column not in present:
                shown = ", ".join(f"`{name}`" for name in present)
                option = "--label COLUMN" if column == self.label else f"--data {self.path}:COLUMN"
                raise DataError(f"{self.path} has no column `{column}`; it has {shown}.", hint=f"Say which holds it: {option}")
        return wanted

    def _text(self, value: Any, column: str, number: int) -> str:
        if column == self.label and isinstance(value, int | float):
            return str(int(value)) if float(value).is_integer() else str(value)
        if not isinstance(value, str) or not value.strip():
            fault = "is empty" if isinstance(value, str) or value is None else f"is {type(value).__name__}, not text"
            raise DataError(f"{self.path}, row {number}: `{column}` {fault}.", hint="Correct or remove the row.")
        return value.strip() if column == self.label else value

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
