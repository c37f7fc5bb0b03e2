"""Reads JSON Lines, objects over several lines and arrays row by row, with bounds on how deep and how long a value may be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.data.text_open import BLOCK_CHARACTERS, lines_of, open_text
from edgebert.errors import DataError

MAX_DEPTH = 50
"""Deepest nesting of a row; the parser calls itself for each level, and a million levels end the process."""
LONGEST_VALUE = 1 << 25
"""Most characters of an element of an array."""
OUTSIDE, INSIDE = re.compile(r'["\[\]{},]'), re.compile(r'["\\]')
"""Characters that matter outside of a string, and in one."""
BY_COLUMNS = "With pandas: df.to_json(FILE, orient='records', lines=True)"


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file with JSON objects, one a line or each over several, or one array of objects or of texts.

    Raises:
        DataError: a line is not a JSON object, with its number.
    """
    with open_text(path) as file:
        block = file.read(BLOCK_CHARACTERS).lstrip()
    array = block[:1] == "["
    if array:
        _refuse_lists(path, block)
    rows = (_row(path, text, line) for line, text in (_elements(path) if array else _objects(path)))
    for number, row in enumerate(rows):
        if not number:
            _refuse_table(path, row)
        yield row


def _refuse_lists(path: Path, block: str) -> None:
    """Raises DataError where each line is a list of its own."""
    first, _, rest = block.partition("\n")
    try:
        if rest.strip() and Nesting().read(first) == 0:
            raise _no_object(path, 1)
    except ValueError as error:
        raise _no_object(path, 1, str(error)) from error


class Nesting:
    """How deep a text has gone, while it is read part by part."""

    def __init__(self) -> None:
        """At the beginning of a file."""
        self.depth = 0
        self.in_string = False
        self._escaped = False

    def marks(self, text: str) -> Iterator[tuple[str, int]]:
        """The brackets and commas outside of strings, each with the place behind it; `depth` counts it already.

        Raises:
            ValueError: the text is nested too deeply.
        """
        place = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        while found := (INSIDE if self.in_string else OUTSIDE).search(text, place):
            mark, place = found.group(), found.end()
            if mark == "\\":
                self._escaped = place >= len(text)
                place += 1
            elif mark == '"':
                self.in_string = not self.in_string
            else:
                self.depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
                if self.depth > MAX_DEPTH:
                    raise ValueError(f"is not a JSON object: it is nested more than {MAX_DEPTH} deep")
                yield mark, place

    def read(self, text: str) -> int:
        """Reads a part. Returns the depth at its end."""
        for _ in self.marks(text):
            pass
        return self.depth


def _objects(path: Path) -> Iterator[tuple[int, str]]:
    """The objects of a file, each with the number of its first line."""
    pending: list[str] = []
    first, size, nesting = 0, 0, Nesting()
    for number, line in enumerate(lines_of(path), start=1):
        if not pending and not line.strip():
            continue
        first = first if pending else number
        pending.append(line)
        size += len(line)
        try:
            open_still = nesting.read(line) > 0 and not nesting.in_string
        except ValueError as error:
            raise _no_object(path, first, str(error)) from error
        if not open_still:
            yield first, "".join(pending)
            pending, size, nesting = [], 0, Nesting()
        elif size > BLOCK_CHARACTERS and len(pending) > 1:
            raise _no_object(path, first)
    if pending:
        raise _no_object(path, first)


def _elements(path: Path) -> Iterator[tuple[int, str]]:
    """The elements of a file that is one array, each with the number of its first line."""
    nesting, parts, size, line, empty = Nesting(), list[str](), 0, 1, True
    with open_text(path) as file:
        while block := file.read(BLOCK_CHARACTERS):
            start = 0
            try:
                for mark, place in nesting.marks(block):
                    if mark in "[{" and nesting.depth == 1:
                        start = place
                    elif nesting.depth == 0 or (mark == "," and nesting.depth == 1):
                        text = "".join([*parts, block[start : place - 1]])
                        if text.strip() or not (empty and nesting.depth == 0):
                            yield line + text[: len(text) - len(text.lstrip())].count("\n"), text
                        parts, size, start, empty = [], 0, place, False
                        line += text.count("\n")
                        if nesting.depth == 0:
                            return _require_end(path, line, block[place:] + file.read(BLOCK_CHARACTERS))
            except ValueError as error:
                raise _no_object(path, line, str(error)) from error
            parts.append(block[start:])
            size += len(parts[-1])
            if size > LONGEST_VALUE:
                raise _no_object(path, line, f"begins a value of more than {LONGEST_VALUE:,} characters")
    raise _no_object(path, line, "begins a value that never ends: the array is not closed")


def _require_end(path: Path, line: int, rest: str) -> None:
    if rest.strip():
        raise _no_object(path, line, "goes on behind the array")


def _row(path: Path, text: str, line: int) -> dict[str, Any]:
    """The object in a text; a text alone is a row with the column `text`."""
    try:
        row = json.loads(text, object_pairs_hook=_distinct)
        json.dumps(row, ensure_ascii=False).encode() if "\\u" in text else None  # raises for a lone surrogate
    except UnicodeEncodeError as error:
        raise _no_object(path, line, "holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise _no_object(path, line) from error
    except ValueError as error:
        fault = str(error) if isinstance(error, _Repeated) else "holds a number of thousands of digits"
        raise _no_object(path, line, fault) from error
    if isinstance(row, str):
        return {"text": row}
    if not isinstance(row, dict):
        raise _no_object(path, line)
    return row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; of two values for one key none is known to be meant."""
    if len(row := dict(pairs)) < len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Repeated(f"has the key `{name[:80]}` twice")
    return row


class _Repeated(ValueError):
    """An object that has a key twice."""


def _refuse_table(path: Path, row: dict[str, Any]) -> None:
    """Raises DataError where the first object is not a row but a whole table, by columns or in a list."""
    values = list(row.values())
    by_columns = bool(values) and all(isinstance(value, dict) for value in values)
    in_list = any(isinstance(value, list) and value and isinstance(value[0], dict | list) for value in values)
    if (by_columns and len(values) > 1) or (in_list and (len(values) == 1 or {"columns", "schema", "data"} & {*row})):
        raise DataError(f"{path} holds a whole table in one JSON object.", hint=f"Write one object for each row. {BY_COLUMNS}")


def _no_object(path: Path, line: int, fault: str = "is not a JSON object") -> DataError:
    hint = 'Every line is one JSON object, for example {"text": "good", "label": "positive"}'
    return DataError(f"{path} cannot be read as JSON: line {line} {fault}.", hint=hint)
