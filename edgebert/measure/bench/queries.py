"""Queries: what the models are asked, and where it comes from: real texts, fixed lengths, or the lengths of a log."""

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
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Row

LONGEST = 1_000_000
"""Tokens; a longer line in a log is a mistake."""
NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Lengths:
    """One source of lengths. `name` is the report's: `data`, a number of tokens, or `log-traffic` for traffic.txt."""

    name: str
    values: tuple[int, ...] = ()
    """In tokens; empty for `data`, whose texts have the lengths that they have."""
    file: Path | None = None
    is_cut: bool = False
    """Whether the log has more than were read."""


def all_lengths(texts: Sequence[str]) -> tuple[Lengths, ...]:
    """What all of `--lengths` ask for, each once; logs of one name are told apart, for a name stands for one load.

    Raises:
        InputError: one is none, as `parse_lengths` says.
    """
    found: dict[str, Lengths] = {}
    for lengths in dict.fromkeys(item for text in texts for item in parse_lengths(text)):
        others = (f"{lengths.name}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([lengths.name], others) if name not in found)
        found[name] = replace(lengths, name=name)
    return tuple(found.values())


def parse_lengths(text: str) -> list[Lengths]:
    """`data`, `16,32,64`, `data,32` or `log:FILE`.

    Raises:
        InputError: it is none of these, or the log is no list of lengths.
    """
    if text.startswith("log:"):
        return [_read_log(text.removeprefix("log:"))]
    found = []
    for part in text.split(","):
        part = part.strip()
        if part != "data" and not (part.isdecimal() and 0 < int(part) <= LONGEST):
            hint = "Give data, numbers of tokens such as 16,32,64, or log:FILE with one length a line."
            raise InputError(f"--lengths {text}: {part!r} is not a length.", hint=hint)
        found.append(Lengths(part) if part == "data" else Lengths(str(int(part)), (int(part),)))
    return found


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
    """What one job asks, in order, warm-up first."""

    rows: list[Any]
    """Rows of text, or lists of token ids."""
    sha256: str
    """Of the timed part."""
    lengths: tuple[int, ...]
    """Tokens of each text, as far as the model takes them."""
    is_text: bool


@dataclass(frozen=True)
class QuerySource:
    """Where queries come from: texts of a user's file or those that ship with edgebert, in a seeded order."""

    data: DataFile | None
    seed: int

    def rows(self, bench_model: BenchModel) -> list[Row]:
        """All texts, as the bench_model takes them.

        Raises:
            DataError: the file's rows have other columns than the bench_model was made for.
        """
        task = get_task(bench_model.task) if bench_model.task else TASKS[0]
        if self.data is None:
            return task.rows_from(sentences(), bench_model.columns)
        rows = self.data.rows(task)
        found = sorted(name for name in rows[0] if name != "label")
        if bench_model.checked_at is not None and tuple(found) != bench_model.columns:
            hint = (
                f"Name its columns: --data {self.data.path}:COLUMN,COLUMN"
                if len(bench_model.columns) > 1
                else "Name one of them."
            )
            raise DataError(
                f"{self.data.path} has {' and '.join(found)}, "
                f"but {bench_model.name} was made for {' and '.join(bench_model.columns)}.",
                hint=hint,
            )
        return rows

    def ask(self, bench_model: BenchModel, lengths: Lengths, *, warmup: int, timed: int) -> Asked:
        """`warmup` texts and then `timed` of them.

        Raises:
            InputError: a length is beyond what the model takes.
            DataError: the data cannot be used.
        """
        if lengths.name == "data" and bench_model.serving is not None:
            return self._texts(bench_model, warmup, timed)
        return self._ids(bench_model, lengths, warmup, timed)

    def _texts(self, bench_model: BenchModel, warmup: int, timed: int) -> Asked:
        serving = bench_model.serving
        assert serving is not None
        pool = [{name: row[name] for name in row if name != "label"} for row in self.rows(bench_model)]
        rows = [pool[index] for index in query_order(len(pool), warmup + timed, self.seed)]
        found = serving.encode(serving.open_tokenizer(), rows)
        return Asked(rows, hash_queries(rows[warmup:], serving.task), tuple(map(len, found)), is_text=True)

    def _ids(self, bench_model: BenchModel, lengths: Lengths, warmup: int, timed: int) -> Asked:
        """Token ids drawn at random: which they are does not matter to the time that a model takes."""
        values = lengths.values or _words_of(self.rows(bench_model))
        if not lengths.values:  # without a tokenizer the texts' own lengths are not known; words are near them
            values = tuple(min(value, bench_model.max_length) for value in values)
        _check_positions(bench_model, lengths)
        chosen = [values[index] for index in query_order(len(values), warmup + timed, self.seed)]
        generator = np.random.default_rng(self.seed)
        rows = [generator.integers(0, bench_model.vocabulary, length).tolist() for length in chosen]
        return Asked(rows, hash_json({"lengths": chosen[warmup:]}), tuple(chosen), is_text=False)


def _words_of(rows: Sequence[Row]) -> tuple[int, ...]:
    """For each row its words and the marks around each text, [CLS] and [SEP]."""
    return tuple(1 + sum(1 + len(str(text).split()) for text in row.values()) for row in rows)


def _check_positions(bench_model: BenchModel, lengths: Lengths) -> None:
    longest = max(lengths.values, default=0)
    if longest <= bench_model.max_length:
        return
    where = f"{lengths.file}, value {lengths.values.index(longest) + 1}" if lengths.file else "--lengths"
    raise InputError(
        f"{where}: {longest} tokens are more than the {bench_model.max_length} that {bench_model.name} takes.",
        hint=f"Stay at {bench_model.max_length} or below; a service cuts longer texts there, too.",
    )
