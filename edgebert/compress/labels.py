"""The labels of a run: whose names the outputs have, which names contradict each other, and which change a model's own."""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.data.first_rows import FirstRows
from edgebert.data.label_match import listed, number_of, without_meaning
from edgebert.data.prepared import PreparedData
from edgebert.errors import Problem
from edgebert.models.folder import ModelFolder
from edgebert.tasks.base import Task

SAME_LABELS = "Name a teacher with the same labels in the same order."
NAME_ALL = "Name them, in the order of the model's outputs: task.labels: [...]"


def label_problems(declared: Sequence[str] | None, model: ModelFolder, task: Task, *, trains: bool) -> list[Problem]:
    """The problems of the recipe's labels, or of the model's where the recipe has none.

    Args:
        declared: the recipe's labels.
        trains: whether a stage trains the head, which then learns the recipe's labels.
    """
    if not task.has_labels:
        return []
    problems = [] if trains or not declared or not model.has_head(task) else _contradictions(declared, model)
    known = declared or (model.labels if model.has_head(task) and not trains else ())
    try:
        task.check_model_labels(known)
    except ValueError as fault:
        problems.append(Problem("task.labels", f"{fault}", suggestion=NAME_ALL))
    return problems


def _contradictions(declared: Sequence[str], model: ModelFolder) -> list[Problem]:
    """Names of the recipe that contradict those of config.json: other numbers of them, or one name for two outputs."""
    if len(declared) != len(model.labels):
        return [Problem("task.labels", f"has {len(declared)} names, but the model has {len(model.labels)} outputs")]
    if (moved := moved_label(declared, model.labels)) is None:
        return []
    ours, theirs = moved
    return [
        Problem(
            "task.labels",
            f"calls output {ours} {declared[ours]!r}, which is output {theirs} in its config.json: {listed(model.labels)}",
            suggestion="Leave task.labels out, or keep that order. Where config.json is wrong, correct its id2label.",
        )
    ]


def moved_label(ours: Sequence[str], theirs: Sequence[str]) -> tuple[int, int] | None:
    """Two outputs that have one name, the first among our names and the second among theirs; None where no name moved."""
    places = {label.strip().casefold(): index for index, label in enumerate(theirs)}
    for index, label in enumerate(ours):
        other = places.get(label.strip().casefold(), index)
        if other != index:
            return index, other
    return None


def renamed(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """A note on the outputs to which `task.labels` gives other names than config.json; None where it gives none."""
    if without_meaning(theirs):
        return None
    pairs = [f"{old} is called {new}" for old, new in zip(theirs, ours, strict=True) if old.strip() != new.strip()]
    return f"task.labels renames the model's outputs: {listed(pairs)}" if pairs else None


def label_fault(name: str, model: ModelFolder, labels: Sequence[str]) -> str | None:
    """The fault in another teacher's labels, if any. Their names may differ, but equal names must have the same place."""
    if len(model.labels) != len(labels):
        return f"{name} has {len(model.labels)} labels, the task {len(labels)}."
    if moved_label(model.labels, labels) is not None:
        return f"{name} has the labels in another order: {listed(model.labels)}; the task has {listed(labels)}."
    return None


def learned_labels(train: PreparedData | FirstRows) -> tuple[str, ...]:
    """The labels of a head that is trained on this data: in the order of the file's own names where it has such, else sorted,
    numbers first."""
    return train.own_names or tuple(sorted(train.labels, key=_natural))


def _natural(label: str) -> tuple[bool, int, str]:
    number = number_of(label) if label.isdecimal() else None
    return number is None, number or 0, label
