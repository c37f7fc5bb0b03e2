"""The labels of prepared sets: the outputs that they mean, the right answers, and what is worth a note about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebert.data.label_match import LabelMatch, listed, match_labels, without_meaning
from edgebert.data.prepared import PreparedData
from edgebert.tasks.base import Task


def label_match(data: PreparedData, task: Task, labels: Sequence[str]) -> LabelMatch:
    """The model's output that each label of a data set means.

    Raises:
        DataError: a label is not one of the model's, or the labels could mean different outputs.
    """
    return match_labels(data.labels, labels, data.own_names, subject=f"data.{data.role}", what=_what(task))


def indices_of_labels(data: PreparedData, task: Task, labels: Sequence[str]) -> dict[str, int]:
    """Label of a data set -> its index among the model's labels. Raises what `label_match` raises."""
    return label_match(data, task, labels).indices


def right_answers(data: PreparedData, task: Task, labels: Sequence[str]) -> list[Any]:
    """The right answer of each row, in the form of a prediction. Raises what `label_match` raises."""
    indices = indices_of_labels(data, task, labels)
    return [task.reference(row, indices, labels) for block in data.blocks() for row in block]


def label_notes(data: PreparedData, task: Task, labels: Sequence[str]) -> list[str]:
    """What a user should know: labels that were matched by number, labels of the model or of the file that no row has."""
    if not data.labels:
        return []
    match, name = label_match(data, task, labels), f"data.{data.role}"
    notes = []
    if match.by == "number" and not without_meaning(labels):
        pairs = [f"{label} is {labels[index]}" for label, index in sorted(match.indices.items(), key=lambda pair: pair[1])]
        notes.append(f"{name}: {_what(task)}s are matched by number: {listed(pairs)}")
    missing = [label for index, label in enumerate(labels) if index not in set(match.indices.values())]
    if missing:
        notes.append(f"{name}: no row has {len(missing)} of the model's {len(labels)} {_what(task)}s: {listed(missing)}")
    if left := data.left_out:
        lacking = f"{len(left)} of the file's {_what(task)}s: {listed(left)}"
        notes.append(f"{name}: the {len(data)} rows that `limit` drew lack {lacking}")
    return notes


def _what(task: Task) -> str:
    return "tag" if task.label_column is not None and task.label_column.kind == "tags" else "label"
