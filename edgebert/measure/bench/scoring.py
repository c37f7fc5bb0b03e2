"""Scores the models of a bench plan: labelled rows of the user's data, the right answers, and what each model predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from edgebert.bundle.signed_graph import held_files
from edgebert.core.packages import quiet_libraries
from edgebert.core.progress import Progress
from edgebert.data.column_kinds import KINDS
from edgebert.data.label_match import match_labels
from edgebert.errors import DataError, InputError
from edgebert.measure.bench.models import BenchModel
from edgebert.measure.bench.queries import QuerySource
from edgebert.measure.bench.sweep import Planned
from edgebert.measure.predictions import BATCHES_AT_ONCE, predict_rows
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Row, Task

Predictions = dict[tuple[str, int], list[Any]]
"""Name of a model and batch -> its predictions."""


def labelled_rows(source: QuerySource, plan: Sequence[Planned]) -> list[Row]:
    """The rows to score; none where no label was asked for."""
    return source.rows(plan[0].model) if source.data and source.data.label else []


def common_references(rows: Sequence[Row], plan: Sequence[Planned]) -> list[Any]:
    """The right answers, which all models must name alike.

    Raises:
        InputError: the models' labels differ, or are not known.
        DataError: a label is not one of them.
    """
    if not rows:
        return []
    models = list({item.model.name: item.model for item in plan}.values())
    right = [references(rows, model) for model in models]
    if strange := [model for model in models if model.labels != models[0].labels]:
        raise InputError(
            f"{strange[0].name} has other labels than {models[0].name}: {', '.join(strange[0].labels)}.",
            hint="Models are scored together where their labels are the same; drop --label to measure latency alone.",
        )
    return right[0]


def references(rows: Sequence[Row], model: BenchModel) -> list[Any]:
    """The right answer to each row, in the form of a prediction.

    Raises:
        InputError: the model's labels are not known.
        DataError: a label is not one of them.
    """
    task = model.answered_task
    if model.task is None or model.serving is None or (task.has_labels and not model.labels):
        hint = "--label needs a classifier with its config.json and its tokenizer; drop it to measure latency alone."
        raise InputError(f"{model.name} does not say what its answers mean.", hint=hint)
    try:
        task.check_model_labels(model.labels)
    except ValueError as fault:
        raise DataError(f"{model.name}: {fault}.", hint="Drop --label to measure latency alone.") from None
    indices = _indices(rows, task, model)
    return [task.reference(row, indices, model.labels) for row in rows]


def _indices(rows: Sequence[Row], task: Task, model: BenchModel) -> dict[str, int]:
    """Label of the data -> its index among the model's labels. Raises DataError for a label that is not one of them."""
    column = task.label_column
    if column is None or not task.has_labels:
        return {}
    counts = Counter(label for row in rows for label in KINDS[column.kind].labels(row[column.name]))
    what = "tag" if column.kind == "tags" else "label"
    return match_labels(counts, model.labels, subject=f"--data, for {model.name}", what=what).indices


def predict_plan(rows: Sequence[Row], plan: Sequence[Planned], progress: Progress) -> Predictions:
    """The predictions of each model at each batch of the plan.

    Raises:
        StageError: a model answers NaN or infinity.
    """
    predictions: Predictions = {}
    for item in plan if rows else ():
        key = item.model.name, item.target.batch
        if key not in predictions:
            whole = item.probe.fixed_batch is not None
            predictions[key] = predict(item.model, item.target, rows, progress, whole_batches=whole)
    return predictions


def predict(
    model: BenchModel, target: Target, rows: Sequence[Row], progress: Progress, *, whole_batches: bool = False
) -> list[Any]:
    """One prediction for each row, in order; see `predict_rows`."""
    serving, size = model.serving, target.batch * BATCHES_AT_ONCE
    assert serving is not None  # `references` saw to it
    blocks = (rows[start : start + size] for start in range(0, len(rows), size))
    with progress.step(f"predict with {model.name}", len(rows)) as step, quiet_libraries():
        with held_files(model.signed) as held:
            session = get_runtime(target.runtime).open_for_answers(model.file, target, held)
        return predict_rows(session.predict, serving, blocks, target, step, name=model.name, whole_batches=whole_batches)
