"""Rows held out of a data set, drawn by the seed: what chooses among models must not have trained them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.store import ArtifactStore, Draft, MadeBy, hash_json
from edgebert.data.column_kinds import KINDS
from edgebert.data.prepared import BLOCK_ROWS, FILE, PreparedData, write_rows
from edgebert.tasks import TASKS
from edgebert.tasks.base import Task

VERSION = 1
SHARE = 0.1
"""Share of a data set that is held out."""
FEWEST, MOST = 256, 2000
"""Fewest and most rows that are held out, where a quarter of the set is as many as the fewest."""
LABELS = frozenset(column.name for task in TASKS if (column := task.label_column))
"""Columns with right answers."""
USEFUL = 64
"""Fewest rows that can choose: among fewer, one row is more than what gates allow."""


def held_out_count(rows: int) -> int:
    """Number of rows to hold out of so many; 0 where too few would choose."""
    count = min(max(round(rows * SHARE), FEWEST), MOST, rows // 4)
    return count if count >= USEFUL else 0


def split(data: PreparedData, count: int, *, task: Task, seed: int, store: ArtifactStore) -> tuple[PreparedData, PreparedData]:
    """The rest of a data set, and about `count` rows of it under the role `select`; each label has its share of these rows.

    Args:
        count: number of rows to hold out; a few less, where labels have few rows.
        seed: draws them.
    """
    chosen = {*_drawn(data, count, task, seed)}
    rest = [index for index in range(len(data)) if index not in chosen]
    return (
        _part(data, rest, data.role, count, task=task, seed=seed, store=store),
        _part(data, sorted(chosen), "select", count, task=task, seed=seed, store=store),
    )


def _drawn(data: PreparedData, count: int, task: Task, seed: int) -> list[int]:
    generator = np.random.default_rng(seed)
    groups = _groups(data, task)
    if sum(len(group) * count // len(data) for group in groups) < USEFUL:  # more labels than rows to share among them
        groups = [list(range(len(data)))]
    return [
        int(index) for group in groups for index in generator.choice(group, size=len(group) * count // len(data), replace=False)
    ]


def _groups(data: PreparedData, task: Task) -> list[list[int]]:
    """Indices of the rows of each label; of all rows, where a row has a list of them."""
    column = task.label_column
    if column is None or KINDS[column.kind].is_list or not task.has_labels:
        return [list(range(len(data)))]
    groups: dict[str, list[int]] = defaultdict(list)
    start = 0
    for block in data.blocks():
        for index, row in enumerate(block, start=start):
            groups[str(row[column.name])].append(index)
        start += len(block)
    return [groups[label] for label in sorted(groups)]


def _part(
    data: PreparedData, indices: Sequence[int], role: str, count: int, *, task: Task, seed: int, store: ArtifactStore
) -> PreparedData:
    def make(draft: Draft) -> Mapping[str, Any]:
        written = _written(data, indices, draft.out / FILE, task)
        labels = {**dict.fromkeys(data.labels, 0), **written["labels"]}  # they are read alike in all parts
        return {**data.artifact.facts, **written, "labels": labels}

    identity = {"split": data.artifact.sha256, "part": role, "count": count, "seed": seed, "version": VERSION}
    made_by = MadeBy(name="data", version=VERSION, parameters=identity, packages={})
    parent = data.artifact.key
    return PreparedData(store.get_or_make(hash_json(identity), format="data", parent=parent, made_by=made_by, make=make), role)


def _written(data: PreparedData, indices: Sequence[int], path: Path, task: Task) -> dict[str, Any]:
    def rows() -> Iterator[dict[str, Any]]:
        for start in range(0, len(indices), BLOCK_ROWS):
            yield from data.rows(indices[start : start + BLOCK_ROWS])

    return write_rows(rows(), path, task, f"data.{data.role}", labelled=False)  # a part may have rows of one label


def shared_rows(data: PreparedData, other: PreparedData) -> int:
    """Number of rows of a set whose columns without labels are those of a row of the other set."""
    if data.artifact.sha256 == other.artifact.sha256:
        return len(data)
    columns = sorted({*data.columns} & {*other.columns} - LABELS)
    theirs = {hash_json([row[name] for name in columns]) for block in other.blocks() for row in block}
    return sum(hash_json([row[name] for name in columns]) in theirs for block in data.blocks() for row in block)
