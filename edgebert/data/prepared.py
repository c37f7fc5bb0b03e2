"""Prepared data sets: read once, checked row by row, and kept in the store as one Arrow file that is mapped, not loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.files import local_path
from edgebert.core.progress import Progress, ProgressStep
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_file, hash_json
from edgebert.data.column_kinds import KINDS, source_of
from edgebert.data.readers import Rows, read_hub, read_rows
from edgebert.data.spec import CalibrationSpec, DataSpec
from edgebert.data.text_files import require_file
from edgebert.errors import DataError
from edgebert.tasks.base import Column, Task

VERSION = 1
FILE = "data.arrow"
BLOCK_ROWS = 1000
MAX_FAULTS = 5
PreparedRow = dict[str, Any]
"""Column of the task -> str, list of str, or None where the row has no such value."""
_MAPPED: dict[Path, Any] = {}
"""Arrow files that are mapped into this process."""
DEFAULT_SPLITS = {"train": "train", "eval": "validation", "calibration": "train", "transfer": "unsupervised"}


def is_labelled(role: str) -> bool:
    """Whether a data set needs labels for its role."""
    return role in ("train", "eval")


@dataclass(frozen=True)
class PreparedData:
    """A checked data set. Labels are text: their index depends on the model."""

    artifact: Artifact
    role: str

    def __len__(self) -> int:
        return int(self.artifact.facts["rows"])

    @property
    def labels(self) -> Mapping[str, int]:
        """Label -> number of times that it occurs; empty if the set has no labels."""
        return dict(self.artifact.facts["labels"])

    @property
    def longest_row(self) -> int:
        """Most words of a row, where rows are lists of words; else 0."""
        return int(self.artifact.facts.get("longest_row", 0))

    @property
    def columns(self) -> list[str]:
        """The columns of the task that the set has."""
        return list(self._mapped().column_names)

    def rows(self, indices: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Some rows, in the order of the indices; by default all."""
        table = self._mapped()[list(range(len(self)) if indices is None else indices)]
        return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[list[dict[str, Any]]]:
        """All rows in order, in blocks, so that a large set is never in memory as a whole."""
        for start in range(0, len(self), size):
            yield self.rows(range(start, min(start + size, len(self))))

    def _mapped(self) -> Any:
        if self.artifact.path not in _MAPPED:
            from datasets import Dataset

            _MAPPED[self.artifact.path] = Dataset.from_file(str(self.artifact.path / FILE))
        return _MAPPED[self.artifact.path]

    def sample(self, count: int, seed: int) -> list[dict[str, Any]]:
        """`count` rows without repetition, chosen by the seed, in the file's order."""
        chosen = np.random.default_rng(seed).choice(len(self), size=count, replace=False)
        return self.rows(sorted(int(index) for index in chosen))


def indices_of_labels(data: PreparedData, task: Task, labels: Sequence[str]) -> dict[str, int]:
    """Label of a data set -> its index among the model's labels.

    Raises:
        DataError: a label is not one of the model's.
    """
    tagged = task.label_column is not None and task.label_column.kind == "tags"
    what, unit = ("tag", "words") if tagged else ("label", "rows")
    indices: dict[str, int] = {}
    for label, count in data.labels.items():
        index = task.label_index(label, labels)
        if index is None:
            raise DataError(
                f"data.{data.role}: the {what} {label!r} ({count} {unit}) is not one of the model's: {', '.join(labels)}.",
                hint="Correct the rows, or name the labels in the order of the model's outputs: task.labels: [...]",
            )
        indices[label] = index
    return indices


def right_answers(data: PreparedData, task: Task, labels: Sequence[str]) -> list[Any]:
    """The right answer of each row, in the form of a prediction. Raises what `indices_of_labels` raises."""
    indices = indices_of_labels(data, task, labels)
    return [task.reference(row, indices, labels) for block in data.blocks() for row in block]


def with_split(spec: DataSpec, role: str) -> DataSpec:
    """A Hub data set with its default split filled in, so that train and eval of one name are two sets."""
    return spec.model_copy(update={"split": DEFAULT_SPLITS[role]}) if spec.hub and not spec.split else spec


def source_hash(spec: DataSpec, base: Path) -> str:
    """Hash of a data set: the file's content or the Hub's name and revision, and how it is read.

    Raises:
        DataError: the file does not exist.
    """
    reading = {**spec.model_dump(exclude={"path", "samples"}), "reader": VERSION}
    if spec.path is None:
        return hash_json(reading)
    path = data_path(spec, base)
    require_file(path)
    return hash_json({**reading, "ending": path.suffix.lower(), "sha256": hash_file(path)})


def data_path(spec: DataSpec, base: Path) -> Path:
    """The file of a data set; a relative path counts from the recipe's folder `base`."""
    assert spec.path is not None
    return local_path(spec.path, base)


def data_key(spec: DataSpec, base: Path, task: Task, *, labelled: bool) -> str:
    """Key of the prepared set in the store."""
    return hash_json({"data": source_hash(spec, base), "task": task.name, "labelled": labelled, "version": VERSION})


def prepare_data(
    spec: DataSpec, role: str, *, base: Path, task: Task, store: ArtifactStore, progress: Progress
) -> PreparedData:
    """The prepared data set from the store, or read and checked if it is not there yet.

    Args:
        role: `train`, `eval`, `calibration` or `transfer`; names it in messages, and calibration and transfer need no labels.

    Raises:
        DataError: with the first faults of the file, by row.
    """
    labelled = is_labelled(role)
    path = data_path(spec, base) if spec.path else None
    name = f"data.{role} ({path.name if path else spec.hub})"

    def make(draft: Draft) -> Mapping[str, Any]:
        with progress.step(f"read {name}") as step:
            source = read_rows(spec, path) if path else read_hub(spec, DEFAULT_SPLITS[role])
            rows = _checked(source, spec, task, name, step, labelled=labelled)
            return write_rows(rows, draft.out / FILE, task, name, labelled=labelled)

    made_by = MadeBy(name="data", version=VERSION, parameters=spec.model_dump(exclude_none=True), packages={})
    key = data_key(spec, base, task, labelled=labelled)
    data = PreparedData(store.get_or_make(key, format="data", parent=None, made_by=made_by, make=make), role)
    if isinstance(spec, CalibrationSpec) and spec.samples > len(data):
        raise DataError(
            f"{name} asks for {spec.samples} samples, but has {len(data)} rows.",
            hint=f"Give it more rows, or set data.calibration.samples to {len(data)} or fewer.",
        )
    return data


def _columns(task: Task, *, labelled: bool) -> list[Column]:
    return [column for column in task.columns if labelled or not column.is_label]


def _checked(rows: Rows, spec: DataSpec, task: Task, name: str, step: ProgressStep, *, labelled: bool) -> Iterator[PreparedRow]:
    """The task's columns of each row. Raises DataError with the first MAX_FAULTS unusable rows."""
    columns = {column.name: column for column in _columns(task, labelled=labelled)}
    wanted: dict[str, str] | None = None
    absent: set[str] = set()
    faults: list[str] = []
    for number, row in enumerate(rows, start=1):
        if wanted is None:
            wanted = _wanted_columns(spec, task, name, list(row), labelled=labelled)
            absent = {spec.columns.get(column, column) for column in columns} - {*row}
        try:
            if late := sorted(absent & {*row}):
                raise ValueError(f"`{late[0]}` is there, but row 1 has no such column")
            yield _read_row(row, wanted, columns, task)
        except ValueError as error:
            faults.append(f"row {number}: {error}")
        if len(faults) >= MAX_FAULTS:
            break
        if spec.limit and number >= spec.limit:
            break
        step.advance()
    if faults:
        more = " (and perhaps more)" if len(faults) == MAX_FAULTS else ""
        listed = "\n  ".join(faults)
        counted = f"{len(faults)} unusable row{'s' if len(faults) > 1 else ''}{more}, counted without the header"
        raise DataError(f"{name}: {counted}:\n  {listed}", hint="Correct or remove them.")


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
    columns = ", ".join(f"`{column}`" for column in present)
    if strange := sorted(set(spec.columns) - known):
        listed = ", ".join(f"`{column}`" for column in sorted(known))
        raise DataError(
            f"{name}: `{strange[0]}` is no column of {task.name}.",
            hint=f"The left side of `columns` is one of {listed}.",
        )
    wanted: dict[str, str] = {}
    for column in _columns(task, labelled=labelled):
        source = _source_of(column, spec, present)
        if source in present:
            wanted[column.name] = source
        elif (column.required and not _has_other(column, task, spec, present)) or column.name in spec.columns:
            raise DataError(
                f"{name} has no column `{source}`; it has {columns}.",
                hint=f"Say which one holds it: columns: {{{column.name}: NAME}}",
            )
    return wanted


def _source_of(column: Column, spec: DataSpec, present: Sequence[str]) -> str:
    """Name of a column in the file: what the recipe says, else as `source_of`."""
    return spec.columns.get(column.name) or source_of(column, present)


def _has_other(column: Column, task: Task, spec: DataSpec, present: Sequence[str]) -> bool:
    """Whether the file has the column that may be there instead."""
    return any(_source_of(other, spec, present) in present for other in task.columns if other.name == column.or_else)


def write_rows(rows: Iterator[PreparedRow], path: Path, task: Task, name: str, *, labelled: bool) -> dict[str, Any]:
    """Writes rows block by block as an Arrow stream.

    Returns:
        Facts of the data set: `rows` (number), `labels` (label -> number of times that it occurs), and `longest_row` (most
        words of a row) where rows are lists of words.

    Raises:
        DataError: there is no row, or only one label although the task has labels.
    """
    import pyarrow as pa

    count, longest = 0, 0
    labels: Counter[str] = Counter()
    kinds, label_column = {column.name: column.kind for column in task.columns}, task.label_column
    writer = None
    with path.open("wb") as file:
        for block in _blocks(rows):
            types = {name: pa.list_(pa.string()) if KINDS[kinds[name]].is_list else pa.string() for name in block[0]}
            table = pa.RecordBatch.from_pylist(block, schema=pa.schema(list(types.items())))
            writer = writer or pa.ipc.new_stream(file, table.schema)
            writer.write_batch(table)
            count += len(block)
            longest = max(longest, *(len(value) for row in block for value in row.values() if isinstance(value, list)), 0)
            if label_column and label_column.name in types:
                read = KINDS[label_column.kind].labels
                labels.update(label for row in block for label in read(row[label_column.name]))
        if writer is None:
            raise DataError(f"{name} has no rows.", hint="Name a file with rows.")
        writer.close()
    if labelled and label_column and len(labels) < 2:
        what = "tag" if label_column.kind == "tags" else "label"
        raise DataError(
            f"{name} has only one {what}: {next(iter(labels))!r}.",
            hint=f"A set with one {what} can neither train nor judge a model.",
        )
    facts = {"rows": count, "labels": dict(sorted(labels.items()))}
    return {**facts, "longest_row": longest} if longest else facts


def _blocks(rows: Iterator[PreparedRow]) -> Iterator[list[PreparedRow]]:
    block: list[PreparedRow] = []
    for row in rows:
        block.append(row)
        if len(block) == BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block
