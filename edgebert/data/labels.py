"""The labels of prepared sets: the outputs that they mean, the right answers, and what is worth a note about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgebert.data.label_match import LabelMatch, listed, match_labels, number_of, without_meaning
from edgebert.data.prepared import PreparedData
from edgebert.errors import DataError
from edgebert.tasks.base import Task


def label_match(data: PreparedData, task: Task, labels: Sequence[str]) -> LabelMatch:
    """The model's output that each label of a data set means.

    Raises:
        DataError: a label is not one of the model's, or the labels could mean different outputs.
    """
    return match_labels(data.labels, labels, data.own_names, subject=f"data.{data.role}", what=_what(task))


def require_one_reading(sets: Iterable[PreparedData], task: Task, labels: Sequence[str]) -> None:
    """Checks that the labels of all sets of a run mean outputs of the model, and that a number means the same one in each.

    A set is read by name where all of its labels are names, so that of a model with the names 1 to 5 a set without the
    label 0 would be read by name, and one with it by number.

    Raises:
        DataError: as `label_match`; or one set is read by number, and in another the same numbers mean other outputs.
    """
    read = [(data, label_match(data, task, labels)) for data in sets if data.labels]
    counted = next((data for data, match in read if match.by == "number"), None)
    for data, match in read if counted else ():
        moved = next((label for label, index in match.indices.items() if number_of(label) not in (None, index)), None)
        if counted and moved is not None:
            what = _what(task)
            raise DataError(
                f"data.{counted.role} has its {what}s as numbers of the model's outputs, data.{data.role} as names, by which "
                f"{moved!r} is output {match.indices[moved]}. Either could be meant.",
                hint=f"Write the {what}s of both as words that the model has, or give its outputs names without numbers: "
                "task.labels: [...]",
            )


def indices_of_labels(data: PreparedData, task: Task, labels: Sequence[str]) -> dict[str, int]:
    """Label of a data set -> its index among the model's labels. Raises what `label_match` raises."""
    return label_match(data, task, labels).indices


def right_answers(data: PreparedData, task: Task, labels: Sequence[str]) -> list[Any]:
    """The right answer of each row, in the form of a prediction.

    Raises:
        DataError: as `label_match`; or the answers of the whole set can judge no model, as equal numbers.
    """
    indices = indices_of_labels(data, task, labels)
    right = [task.reference(row, indices, labels) for block in data.blocks() for row in block]
    try:
        task.check_rows(right)
    except ValueError as fault:
        raise DataError(f"data.{data.role} {fault}.", hint="Give it rows with different right answers.") from None
    return right


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
