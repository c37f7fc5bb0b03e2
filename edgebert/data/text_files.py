"""Reads CSV, TSV, JSON Lines and CoNLL row by row, and checks that a file is text: with the standard library alone, as on a
device."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from edgebert.errors import DataError

BLOCK_CHARACTERS = 1 << 20
LONGEST_NAME = 1 << 17
"""Most characters of a column's name; a longer name is not in a header line."""
LONGEST_FIELD = 1 << 26
"""Most characters of a field; a longer one has a quote that never closes, and would fill the memory."""
BLANKS = 64
"""Characters before the bracket of an array that are looked at: blanks and line ends."""
END = "\0"
"""Added after the last line. No text file contains it, so a field that does has a quote that never closes."""


def check_file(path: Path, *, text: bool) -> None:
    """Raises DataError if the file is missing, empty or, when it should be text, not UTF-8. Reads it in blocks."""
    require_file(path)
    if path.stat().st_size == 0:
        raise DataError(f"The data file {path} is empty.", hint="Name one with rows: --set data.eval=FILE")
    if not text:
        return
    line = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while block := file.read(BLOCK_CHARACTERS):
                line += block.count("\n")
                if "\0" in block:
                    hint = "Is it another format, or UTF-16? Convert it, or add `format:`."
                    raise DataError(f"{path} holds NUL bytes near line {line}; it is not a text file.", hint=hint)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text, near line {line} (byte 0x{error.object[error.start]:02x}).",
            hint="Convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error


def require_file(path: Path) -> None:
    """Raises DataError if there is no such file."""
    if path.is_dir():
        raise DataError(f"The data file {path} is a folder.", hint="Name a file in it.")
    if not path.is_file():
        raise DataError(
            f"The data file {path} does not exist.", hint="Correct it under `data` in the recipe, or --set data.eval=FILE"
        )


def read_delimited(path: Path, delimiter: str, *, quotes: bool) -> Iterator[dict[str, Any]]:
    """Rows of a CSV or TSV file by the names in its header line. All values are text, empty where a row is too short.

    Args:
        quotes: whether " encloses a field; otherwise it is an ordinary character.

    Raises:
        DataError: there is no header line, it names a column twice, or a row does not fit it.
    """
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = _split(file, delimiter, csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
            _, header = next(rows, (0, []))
            names = _checked_names(path, header)
            for index, (line, row) in enumerate(rows):
                if len(row) > len(names):
                    raise _too_many_fields(path, index, line, len(row), len(names))
                yield dict(zip(names, [*row, *[""] * (len(names) - len(row))], strict=True))
        except (csv.Error, TypeError, ValueError) as error:
            hint = "Check the separator and the quotes; in a recipe, `quoting: none` reads quotes as ordinary characters."
            raise DataError(f"{path} cannot be read as CSV: {error}", hint=hint) from error


def _split(file: TextIO, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    """For every row that is not blank: the number of its last line, and its fields."""
    if delimiter in "\r\n":
        raise csv.Error("a line break cannot separate columns")
    line = ""

    def lines() -> Iterator[str]:
        nonlocal line
        for line in file:  # noqa: UP028 - `line` is read below
            yield line
        line = END
        yield END

    reader = csv.reader(lines(), delimiter=delimiter, quoting=quoting)
    for row in reader:
        if line == END and row != [END]:
            raise csv.Error("EOF inside string: a quote never closes")
        if line != END and (len(row) > 1 or line.strip()):
            yield reader.line_num, row


def _checked_names(path: Path, header: list[str]) -> list[str]:
    names = [name or f"Unnamed: {index}" for index, name in enumerate(header)]  # as pandas names them
    if not names or max(map(len, names)) > LONGEST_NAME:
        hint = "Its first line names the columns, for example text,label"
        raise DataError(f"{path} has no header line with the names of its columns.", hint=hint)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two columns `{repeated[0]}`.", hint="Rename one in its header line.")
    return names


def _too_many_fields(path: Path, index: int, line: int, fields: int, names: int) -> Exception:
    if index:
        return csv.Error(f"Expected {names} fields in line {line}, saw {fields}")
    return DataError(
        f"{path}: its first row has {fields} fields, but its header line names {names}.",
        hint="Name every column in the first line, and check the separator and the quotes.",
    )


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file with JSON objects, one a line or each over several, or one array of objects or of texts.

    Raises:
        DataError: a line is not a JSON object, with its number.
    """
    with path.open(encoding="utf-8-sig") as file:
        if file.read(BLANKS).lstrip()[:1] == "[" and (rows := _array(path)) is not None:
            yield from rows
            return
        file.seek(0)
        pending, first = "", 0
        for number, line in enumerate(file, start=1):
            pending, first = pending + line, first if pending else number
            if not pending.strip():
                pending = ""
            elif (row := _object(path, pending, first)) is not None:
                yield row
                pending = ""
        if pending:
            raise _no_object(path, first)


def _array(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file that is one JSON array; None for other files."""
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return None
    rows = [{"text": item} if isinstance(item, str) else item for item in items]
    return rows if all(isinstance(row, dict) for row in rows) else None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; of two values for one key none is known to be meant."""
    names = [name for name, _ in pairs]
    if len(row := dict(pairs)) < len(pairs):
        raise _Repeated(f"has the key `{next(name for name in names if names.count(name) > 1)}` twice")
    return row


class _Repeated(ValueError):
    """An object that has a key twice."""


def _object(path: Path, text: str, line: int) -> dict[str, Any] | None:
    """The object that begins on a line; None where it goes on behind the text, as a pretty-printed one does."""
    try:
        row = json.loads(text, object_pairs_hook=_distinct)
        json.dumps(row, ensure_ascii=False).encode() if "\\u" in text else None  # raises for a lone surrogate
    except json.JSONDecodeError as error:
        if text[error.pos :].strip() or len(text) > BLOCK_CHARACTERS or not text.lstrip().startswith("{"):
            raise _no_object(path, line) from error
        return None
    except UnicodeEncodeError as error:
        raise _no_object(path, line, "holds half of a surrogate pair") from error
    except (ValueError, RecursionError) as error:
        raise _no_object(path, line, str(error) if isinstance(error, _Repeated) else "is not a JSON object") from error
    if not isinstance(row, dict):
        raise _no_object(path, line)
    return row


def _no_object(path: Path, line: int, fault: str = "is not a JSON object") -> DataError:
    hint = 'Every line is one JSON object, for example {"text": "good", "label": "positive"}'
    return DataError(f"{path} cannot be read as JSON: line {line} {fault}.", hint=hint)


def read_conll(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a CoNLL file: one row a sentence, with `words` and `tags` from the first and the last column of its lines."""
    words: list[str] = []
    tags: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip() or line.startswith("-DOCSTART-"):
                if words:
                    yield {"words": words, "tags": tags}
                words, tags = [], []
                continue
            parts = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()  # a word may hold other blanks
            if len(parts) < 2:
                raise DataError(f"{path}, line {number}: needs a word and a tag, has {line.strip()!r}.")
            words.append(parts[0].strip())
            tags.append(parts[-1].strip())
    if words:
        yield {"words": words, "tags": tags}
