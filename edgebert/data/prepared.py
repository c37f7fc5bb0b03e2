"""Prepared data sets: read once, checked row by row, and kept in the store as one Arrow file that is mapped, not loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.files import local_path
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_file, hash_json
from edgebert.data.arrow_files import is_saved, saved_files
from edgebert.data.checked_rows import PreparedRow, checked_rows, file_column
from edgebert.data.class_names import class_names
from edgebert.data.column_kinds import KINDS, ColumnKind
from edgebert.data.readers import Rows, is_quoted_tsv, read_hub, read_rows
from edgebert.data.sampling import Census, drawn_rows, take_census
from edgebert.data.shipped import is_shipped, shipped_file
from edgebert.data.spec import CalibrationSpec, DataSpec
from edgebert.data.text_open import require_file
from edgebert.errors import DataError
from edgebert.tasks.base import Task

VERSION = 1
HUB_VERSION = 2
"""Since 2, the names that a data set on the Hub gives its labels are kept."""
FILE = "data.arrow"
BLOCK_ROWS = 1000
_MAPPED: dict[Path, Any] = {}
"""Arrow files that are mapped into this process."""
DEFAULT_SPLITS = {
    "train": "train",
    "eval": "validation",
    "select": "validation",
    "calibration": "train",
    "transfer": "unsupervised",
}


def is_labelled(role: str) -> bool:
    """Whether a data set needs labels for its role."""
    return role in ("train", "eval", "select")


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
    def own_names(self) -> tuple[str, ...]:
        """The names that the file gives the numbers 0, 1, ... in its label column; empty where it names none."""
        return tuple(self.artifact.facts.get("names", ()))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Labels of the file that none of the rows has which `limit` drew."""
        return tuple(self.artifact.facts.get("left_out", ()))

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


def with_split(spec: DataSpec, role: str) -> DataSpec:
    """A Hub data set with its default split filled in, so that train and eval of one name are two sets."""
    return spec.model_copy(update={"split": DEFAULT_SPLITS[role]}) if spec.hub and not spec.split else spec


def source_hash(spec: DataSpec, base: Path, seed: int = 0) -> str:
    """Hash of a data set: the file's content or the Hub's name and revision, and how it is read.

    Args:
        seed: the recipe's, which draws the rows of a `limit`.

    Raises:
        DataError: the file does not exist.
    """
    reading = {**spec.model_dump(exclude={"path", "samples", "header", "label_columns"}), "reader": VERSION}
    if spec.header:
        reading["header"] = spec.header  # absent from the keys of stores that were made before
    if spec.label_columns:
        reading["label_columns"] = list(spec.label_columns)
    if spec.limit:
        reading["drawn_by"] = seed  # before, a limit took the first rows
    if spec.path is None:
        return hash_json({**reading, "reader": HUB_VERSION})
    path = data_path(spec, base)
    content = _content_hash(path)
    if names := class_names(spec, path):
        reading["names"] = {column: list(of) for column, of in names.items()}
    if is_quoted_tsv(spec, path):
        reading["quoting"] = "standard"
    return hash_json({**reading, "ending": path.suffix.lower(), "sha256": content})


def _content_hash(path: Path) -> str:
    if is_saved(path):
        return hash_json({file.name: hash_file(file) for file in saved_files(path)})
    require_file(path)
    return hash_file(path)


def data_path(spec: DataSpec, base: Path) -> Path:
    """The file of a data set; a relative path counts from the recipe's folder `base`."""
    assert spec.path is not None
    if is_shipped(spec.path):
        return shipped_file(spec.path)
    return local_path(spec.path, base)


def set_name(spec: DataSpec, role: str, base: Path) -> str:
    """The data set in messages: `data.train (train.csv)`."""
    return f"data.{role} ({data_path(spec, base).name if spec.path else spec.hub})"


def data_key(spec: DataSpec, base: Path, task: Task, *, labelled: bool, seed: int = 0) -> str:
    """Key of the prepared set in the store."""
    return hash_json({"data": source_hash(spec, base, seed), "task": task.key, "labelled": labelled, "version": VERSION})


def prepare_data(
    spec: DataSpec, role: str, *, base: Path, task: Task, store: ArtifactStore, progress: Progress, seed: int = 0
) -> PreparedData:
    """The prepared data set from the store, or read and checked if it is not there yet.

    Args:
        role: `train`, `eval`, `select`, `calibration` or `transfer`; names it in messages. Calibration and transfer need no
            labels.
        seed: draws the rows of a `limit`.

    Raises:
        DataError: with the first faults of the file, by row.
    """
    labelled = is_labelled(role)
    path = data_path(spec, base) if spec.path else None
    name = set_name(spec, role, base)

    def read() -> Rows:
        return read_rows(spec, path) if path else read_hub(spec, DEFAULT_SPLITS[role])

    def make(draft: Draft) -> Mapping[str, Any]:
        names = class_names(spec, path, DEFAULT_SPLITS[role])
        column = task.label_column if labelled else None
        source = file_column(column, spec, names) if column else ""
        with progress.step(f"read {name}") as step:
            census = take_census(read(), column, _label_source(read, task, spec)) if spec.limit else None
            numbered = drawn_rows(read, census.rows, spec.limit, seed) if census and spec.limit else enumerate(read(), start=1)
            rows = checked_rows(numbered, spec, task, name, step, labelled=labelled)
            facts = write_rows(rows, draft.out / FILE, task, name, labelled=labelled)
        return {**facts, **_more_facts(facts, census, names.get(source, ()))}

    made_by = MadeBy(name="data", version=VERSION, parameters=spec.model_dump(exclude_none=True), packages={})
    key = data_key(spec, base, task, labelled=labelled, seed=seed)
    data = PreparedData(store.get_or_make(key, format="data", parent=None, made_by=made_by, make=make), role)
    if isinstance(spec, CalibrationSpec) and spec.samples > len(data):
        raise DataError(
            f"{name} asks for {spec.samples} samples, but has {len(data)} rows.",
            hint=f"Give it more rows, or set data.calibration.samples to {len(data)} or fewer.",
        )
    return data


def _label_source(read: Callable[[], Rows], task: Task, spec: DataSpec) -> str:
    """The file's column with labels."""
    return file_column(task.label_column, spec, next(read(), {})) if task.label_column else ""


def _more_facts(facts: Mapping[str, Any], census: Census | None, names: Sequence[str]) -> dict[str, Any]:
    """Facts that only some sets have: `left_out`, labels that no drawn row has, and `names`, the file's own for its numbers."""
    left = [names[int(label)] if label.isdecimal() and int(label) < len(names) else label for label in _left(facts, census)]
    return {**({"left_out": left} if left else {}), **({"names": list(names)} if names else {})}


def _left(facts: Mapping[str, Any], census: Census | None) -> list[str]:
    return sorted(set(census.labels) - set(facts["labels"])) if census else []


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
            types = {name: _arrow_type(KINDS[kinds[name]]) for name in block[0]}
            table = pa.RecordBatch.from_pylist(block, schema=pa.schema(list(types.items())))
            writer = writer or pa.ipc.new_stream(file, table.schema)
            writer.write_batch(table)
            count += len(block)
            longest = max(longest, *(len(row[name] or ()) for row in block for name in row if kinds[name] == "words"), 0)
            if label_column and label_column.name in types:
                read = KINDS[label_column.kind].labels
                labels.update(label for row in block for label in read(row[label_column.name]))
        if writer is None:
            raise DataError(f"{name} has no rows.", hint="Name a file with rows.")
        writer.close()
    if labelled and label_column and task.has_labels and len(labels) < 2:
        what = "tag" if label_column.kind == "tags" else "label"
        raise DataError(
            f"{name} has only one {what}: {next(iter(labels))!r}.",
            hint=f"A set with one {what} can neither train nor judge a model.",
        )
    facts = {"rows": count, "labels": dict(sorted(labels.items()))}
    return {**facts, "longest_row": longest} if longest else facts


def _arrow_type(kind: ColumnKind) -> Any:
    import pyarrow as pa

    return pa.list_(kind.arrow(pa)) if kind.is_list else kind.arrow(pa)


def _blocks(rows: Iterator[PreparedRow]) -> Iterator[list[PreparedRow]]:
    block: list[PreparedRow] = []
    for row in rows:
        block.append(row)
        if len(block) == BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block
