"""Queries for the models: real texts, token ids of fixed lengths, or of the lengths in a log."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.files import local_path, sentences
from edgebert.core.store import hash_json
from edgebert.errors import DataError, InputError
from edgebert.measure.bench.data_file import MOST_ROWS, DataFile, check_text
from edgebert.measure.bench.models import BenchModel
from edgebert.measure.latency.latency import hash_queries, query_order
from edgebert.tasks.base import Row

LONGEST = 1_000_000
"""Most tokens of a query; a longer line in a log is a mistake."""
NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Lengths:
    """One source of lengths. `name` is the report's: `data`, a number of tokens, or `log-traffic` for traffic.txt."""

    name: str
    values: tuple[int, ...] = ()
    """Lengths in tokens; empty for `data`, whose texts have lengths of their own."""
    file: Path | None = None
    is_cut: bool = False
    """Whether the log has more lengths than were read."""


def all_lengths(texts: Sequence[str]) -> tuple[Lengths, ...]:
    """The lengths of all `--lengths`, each once; logs of one name are numbered, because a name stands for one load.

    Raises:
        InputError: a text is not understood, as in `parse_lengths`.
    """
    named: dict[str, Lengths] = {}
    for lengths in dict.fromkeys(item for text in texts for item in parse_lengths(text)):
        others = (f"{lengths.name}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([lengths.name], others) if name not in named)
        named[name] = replace(lengths, name=name)
    return tuple(named.values())


def parse_lengths(text: str) -> list[Lengths]:
    """`data`, `16,32,64`, `data,32` or `log:FILE`.

    Raises:
        InputError: it is none of these, or the log is not a list of lengths.
    """
    if text.startswith("log:"):
        return [_read_log(text.removeprefix("log:"))]
    lengths = []
    for part in text.split(","):
        part = part.strip()
        if part != "data" and not (part.isdecimal() and 0 < int(part) <= LONGEST):
            hint = "Give data, numbers of tokens such as 16,32,64, or log:FILE with one length a line."
            raise InputError(f"--lengths {text}: {part!r} is not a length.", hint=hint)
        lengths.append(Lengths(part) if part == "data" else Lengths(str(int(part)), (int(part),)))
    return lengths


def _read_log(text: str) -> Lengths:
    path = local_path(text, Path.cwd())
    if not path.is_file():
        raise DataError(f"There is no log {text}.", hint="--lengths log:FILE, a text file with one length in tokens a line.")
    check_text(path)
    values: list[int] = []
    is_cut = False
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if is_cut := len(values) == MOST_ROWS:
                break
            if not (line.strip().isdecimal() and 0 < int(line) <= LONGEST):
                hint = "Every line is one length: the number of tokens of a query."
                raise DataError(f"{path}, line {number}: {line.strip()[:40]!r} is not a number of tokens.", hint=hint)
            values.append(int(line))
    if not values:
        raise DataError(f"{path} has no lengths.", hint="Every line is one length: the number of tokens of a query.")
    return Lengths(f"log-{NOT_IN_NAMES.sub('_', path.stem)}", tuple(values), path, is_cut)


@dataclass(frozen=True)
class Asked:
    """The queries of one job, in order, warm-up first."""

    rows: list[Any]
    """Rows of text, or lists of token ids."""
    sha256: str
    """sha256 of the timed queries."""
    lengths: tuple[int, ...]
    """Tokens of each text, cut to what the model takes."""
    is_text: bool


@dataclass(frozen=True)
class QuerySource:
    """Source of queries: texts of a user's file, or the sentences that ship with edgebert, in a seeded order."""

    data: DataFile | None
    seed: int

    def rows(self, model: BenchModel) -> list[Row]:
        """All texts, with the columns that the model takes.

        Raises:
            DataError: the file's rows have other columns than the model was made for.
        """
        task = model.answered_task
        if self.data is None:
            return task.rows_from(sentences(), model.columns)
        rows = self.data.rows(task)
        at_will = {column.name for column in task.columns if column.at_will}
        found = sorted(
            column.or_else or column.name for column in task.columns if column.name in rows[0] and not column.is_label
        )
        if model.checked_at is not None and {*found} - at_will != {*model.columns} - at_will:
            hint = f"Name its columns: --data {self.data.path}:COLUMN,COLUMN" if len(model.columns) > 1 else "Name one of them."
            raise DataError(
                f"{self.data.path} has {' and '.join(found)}, but {model.name} was made for {' and '.join(model.columns)}.",
                hint=hint,
            )
        return rows

    def ask(self, model: BenchModel, lengths: Lengths, *, warmup: int, timed: int) -> Asked:
        """Queries of `warmup` texts and then of `timed` texts.

        Raises:
            InputError: a length is more than the model takes.
            DataError: the data cannot be used.
        """
        if lengths.name == "data" and model.serving is not None:
            return self._texts(model, warmup, timed)
        return self._ids(model, lengths, warmup, timed)

    def _texts(self, model: BenchModel, warmup: int, timed: int) -> Asked:
        serving = model.serving
        assert serving is not None
        asked = serving.task.input_names
        pool = [{name: row[name] for name in asked if name in row} for row in self.rows(model)]
        rows = [pool[index] for index in query_order(len(pool), warmup + timed, self.seed)]
        found = serving.encode(serving.open_tokenizer(), rows)
        return Asked(rows, hash_queries(rows[warmup:], serving.task), tuple(map(len, found)), is_text=True)

    def _ids(self, model: BenchModel, lengths: Lengths, warmup: int, timed: int) -> Asked:
        """Token ids drawn at random: their values do not change the time that a model takes."""
        values = lengths.values or _words_of(self.rows(model))
        if not lengths.values:  # without a tokenizer the texts' lengths in tokens are not known; words come near them
            values = tuple(min(value, model.max_length) for value in values)
        _check_positions(model, lengths)
        chosen = [values[index] for index in query_order(len(values), warmup + timed, self.seed)]
        generator = np.random.default_rng(self.seed)
        rows = [generator.integers(0, model.vocabulary, length).tolist() for length in chosen]
        return Asked(rows, hash_json({"lengths": chosen[warmup:]}), tuple(chosen), is_text=False)


def _words_of(rows: Sequence[Row]) -> tuple[int, ...]:
    """For each row the number of its words and of the marks around each text, [CLS] and [SEP]."""
    return tuple(1 + sum(1 + len(str(text).split()) for text in row.values()) for row in rows)


def _check_positions(model: BenchModel, lengths: Lengths) -> None:
    longest = max(lengths.values, default=0)
    if longest <= model.max_length:
        return
    where = f"{lengths.file}, value {lengths.values.index(longest) + 1}" if lengths.file else "--lengths"
    raise InputError(
        f"{where}: {longest} tokens are more than the {model.max_length} that {model.name} takes.",
        hint=f"Stay at {model.max_length} or below; a service cuts longer texts there, too.",
    )
