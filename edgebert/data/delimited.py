"""Reads CSV and TSV row by row, and tells from a file how it was written: Excel's `sep=;`, pandas' quotes in TSV."""

from __future__ import annotations

import csv
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.data.text_open import lines_of
from edgebert.errors import DataError

LONGEST_NAME = 1 << 17
"""Most characters of a column's name; a longer name is not in a header line."""
LONGEST_FIELD = 1 << 26
"""Most characters of a field; a longer one has a quote that never closes, and would fill the memory."""
MOST_COLUMNS = 100_000
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*')
"""First line of a CSV file that Excel wrote or reads: it names the separator."""
END = "\0"
"""Added after the last line. No text file contains it, so a field that does has a quote that never closes."""


def read_delimited(path: Path, delimiter: str, *, quotes: bool, header: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of a CSV or TSV file by the names in its header line. All values are text, empty where a row is too short.

    Args:
        quotes: whether " encloses a field; otherwise it is an ordinary character.
        header: whether the first line names the columns; otherwise their names are 1, 2, ...

    Raises:
        DataError: there is no header line, it names a column twice, or a row does not fit it.
    """
    csv.field_size_limit(LONGEST_FIELD)
    try:
        rows = _split(path, delimiter, csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
        at, first = next(rows, (0, []))
        names = _checked_names(path, first) if header else [str(number) for number in range(1, len(first) + 1)]
        for index, (line, row) in enumerate(rows if header else itertools.chain([(at, first)] if first else [], rows)):
            if len(row) > len(names):
                raise _too_many_fields(path, index, line, len(row), len(names))
            yield dict(zip(names, [*row, *[""] * (len(names) - len(row))], strict=True))
    except (csv.Error, TypeError, ValueError) as error:
        hint = "Check the separator and the quotes; in a recipe, `quoting: none` reads quotes as ordinary characters."
        raise DataError(f"{path} cannot be read as CSV: {error}", hint=hint) from error


def own_separator(path: Path) -> str | None:
    """The separator that the file names itself in a first line `sep=;`; None where it has no such line."""
    found = SEPARATOR_LINE.fullmatch(next(lines_of(path, newline=""), ""))
    return found.group(1) if found else None


def quoted_as_pandas(path: Path, delimiter: str = "\t") -> bool:
    """Whether every row with a quote in it is one that pandas' `to_csv` would write, so that quotes enclose fields."""
    csv.field_size_limit(LONGEST_FIELD)
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in lines_of(path, newline=""):
            taken.append(line)
            yield line

    seen = False
    try:
        for row in csv.reader(lines(), delimiter=delimiter, strict=True):
            written = "".join(taken).rstrip("\r\n")
            taken.clear()
            if '"' in written:
                seen = True
                if written not in _written(row, delimiter):
                    return False
    except (csv.Error, OSError, EOFError, ValueError, zlib.error, DataError):  # a damaged file is refused when it is read
        return False
    return seen


def _written(row: list[str], delimiter: str) -> set[str]:
    """A row as pandas writes it, with as few quotes as it can, and with all."""
    forms = set()
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        line = io.StringIO()
        csv.writer(line, delimiter=delimiter, quoting=quoting, lineterminator="").writerow(row)
        forms.add(line.getvalue())
    return forms


def _split(path: Path, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    """For every row that is not blank: the number of its last line, and its fields."""
    if delimiter in "\r\n":
        raise csv.Error("a line break cannot separate columns")
    line = ""

    def lines() -> Iterator[str]:
        nonlocal line
        for number, line in enumerate(lines_of(path, newline="")):
            yield "\n" if not number and SEPARATOR_LINE.fullmatch(line) else line
        line = END
        yield END

    reader = csv.reader(lines(), delimiter=delimiter, quoting=quoting)
    for row in reader:
        if line == END and row != [END]:
            raise csv.Error("EOF inside string: a quote never closes")
        if line != END and (len(row) > 1 or (row and line.strip())):
            yield reader.line_num, row


def _checked_names(path: Path, header: list[str]) -> list[str]:
    names = [name or f"Unnamed: {index}" for index, name in enumerate(header)]  # as pandas names them
    if not names or max(map(len, names)) > LONGEST_NAME:
        hint = "Its first line names the columns, for example text,label; of a file without such a line: header: none"
        raise DataError(f"{path} has no header line with the names of its columns.", hint=hint)
    if len(names) > MOST_COLUMNS:
        hint = "Check the separator: is a text cut at every comma?"
        raise DataError(f"{path} has {len(names):,} columns (at most {MOST_COLUMNS:,}).", hint=hint)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        hint = "Rename one in its header line. A file whose first line is a row: header: none"
        raise DataError(f"{path} has two columns `{repeated[0][:80]}`.", hint=hint)
    return names


def _too_many_fields(path: Path, index: int, line: int, fields: int, names: int) -> Exception:
    if index:
        return csv.Error(f"Expected {names} fields in line {line}, saw {fields}")
    return DataError(
        f"{path}: its first row has {fields} fields, but its header line names {names}.",
        hint="Name every column in the first line, and check the separator and the quotes.",
    )
