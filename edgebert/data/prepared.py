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
from edgebert.data.readers import Rows, read_hub, read_rows
from edgebert.data.spec import CalibrationSpec, DataSpec
from edgebert.data.text_files import require_file
from edgebert.errors import DataError
from edgebert.tasks.base import Column, Task

VERSION = 1
FILE = "data.arrow"
BLOCK_ROWS = 1000
MAX_CHARACTERS = 1_000_000
MAX_FAULTS = 5
MISSING_MARKS = ("nan", "NaN")  # what pandas and numpy write for a missing value
_MAPPED: dict[Path, Any] = {}
"""Arrow files that are mapped into this process."""
DEFAULT_SPLITS = {"train": "train", "eval": "validation", "calibration": "train", "transfer": "unsupervised"}


def is_labelled(role: str) -> bool:
    """Whether a data set needs labels for its role."""
    return role in ("train", "eval")


@dataclass(frozen=True)
class PreparedData:
    """A checked data set. All columns are text, `label` too: its index depends on the model."""

    artifact: Artifact
    role: str

    def __len__(self) -> int:
        return int(self.artifact.facts["rows"])

    @property
    def labels(self) -> Mapping[str, int]:
        """Label -> number of rows; empty if the set has no labels."""
        return dict(self.artifact.facts["labels"])

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
    indices: dict[str, int] = {}
    for label, rows in data.labels.items():
        index = task.label_index(label, labels)
        if index is None:
            raise DataError(
                f"data.{data.role}: the label {label!r} ({rows} rows) is not one of the model's: {', '.join(labels)}.",
                hint="Correct the rows, or name the labels in the order of the model's outputs: task.labels: [...]",
            )
        indices[label] = index
    return indices


def label_indices(data: PreparedData, task: Task, labels: Sequence[str]) -> list[int]:
    """The index of each row's label among the model's labels. Raises what `indices_of_labels` raises."""
    indices = indices_of_labels(data, task, labels)
    return [indices[row["label"]] for block in data.blocks() for row in block]


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


def _checked(
    rows: Rows, spec: DataSpec, task: Task, name: str, step: ProgressStep, *, labelled: bool
) -> Iterator[dict[str, str | None]]:
    """The task's columns of each row, as text. Raises DataError with the first MAX_FAULTS unusable rows."""
    wanted: dict[str, str] | None = None
    absent: set[str] = set()
    faults: list[str] = []
    for number, row in enumerate(rows, start=1):
        if wanted is None:
            wanted = _wanted_columns(spec, task, name, list(row), labelled=labelled)
            absent = {spec.columns.get(column.name, column.name) for column in _columns(task, labelled=labelled)} - {*row}
        try:
            if late := sorted(absent & {*row}):
                raise ValueError(f"`{late[0]}` is there, but row 1 has no such column")
            yield {column: _text(row.get(source), column, source) for column, source in wanted.items()}
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


def _wanted_columns(spec: DataSpec, task: Task, name: str, present: list[str], *, labelled: bool) -> dict[str, str]:
    known = {column.name for column in task.columns}
    columns = ", ".join(f"`{column}`" for column in present)
    if strange := sorted(set(spec.columns) - known):
        listed = ", ".join(f"`{column}`" for column in sorted(known))
        raise DataError(
            f"{name}: `{strange[0]}` is no column of {task.name}.",
            hint=f"The left side of `columns` is one of {listed}.",
        )
    wanted = {}
    for column in _columns(task, labelled=labelled):
        source = spec.columns.get(column.name, column.name)
        if source in present:
            wanted[column.name] = source
        elif column.required or column.name in spec.columns:
            raise DataError(
                f"{name} has no column `{source}`; it has {columns}.",
                hint=f"Say which one holds it: columns: {{{column.name}: NAME}}",
            )
    return wanted


def _text(value: Any, column: str, source: str) -> str:
    where = f"`{source}`"
    if value is None or (isinstance(value, float) and value != value):
        raise ValueError(f"{where} is missing")
    if isinstance(value, bool | int | float) and column == "label":
        return str(int(value)) if float(value).is_integer() else str(value)
    if not isinstance(value, str):
        raise ValueError(f"{where} is not text but {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{where} is empty")
    if value.strip() in MISSING_MARKS:
        raise ValueError(f"{where} is {value.strip()!r}, which is how pandas writes a missing value")
    if len(value) > MAX_CHARACTERS:
        hint = "a quote that never closes, or lines that were joined?"
        raise ValueError(f"{where} has {len(value):,} characters (at most {MAX_CHARACTERS:,}): {hint}")
    return value.strip() if column == "label" else value


def write_rows(rows: Iterator[dict[str, str | None]], path: Path, task: Task, name: str, *, labelled: bool) -> dict[str, Any]:
    """Writes rows block by block as an Arrow stream.

    Returns:
        Facts of the data set: `rows` (number) and `labels` (label -> number of rows).

    Raises:
        DataError: there is no row, or only one label although the task has labels.
    """
    import pyarrow as pa

    count = 0
    labels: Counter[str] = Counter()
    writer = None
    with path.open("wb") as file:
        for block in _blocks(rows):
            table = pa.RecordBatch.from_pylist(block, schema=pa.schema([(column, pa.string()) for column in block[0]]))
            writer = writer or pa.ipc.new_stream(file, table.schema)
            writer.write_batch(table)
            count += len(block)
            labels.update(label for row in block if (label := row.get("label")) is not None)
        if writer is None:
            raise DataError(f"{name} has no rows.", hint="Name a file with rows.")
        writer.close()
    if labelled and any(column.is_label for column in task.columns) and len(labels) < 2:
        raise DataError(
            f"{name} has only one label: {next(iter(labels))!r}.",
            hint="A set with one label can neither train nor judge a model.",
        )
    return {"rows": count, "labels": dict(sorted(labels.items()))}


def _blocks(rows: Iterator[dict[str, str | None]]) -> Iterator[list[dict[str, str | None]]]:
    block: list[dict[str, str | None]] = []
    for row in rows:
        block.append(row)
        if len(block) == BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block
