"""Predictions on the eval set, at the deployed batch and padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgebert.core.libraries import quiet_libraries
from edgebert.core.progress import Progress, ProgressStep
from edgebert.data.prepared import PreparedData
from edgebert.errors import DataError, InputError, StageError
from edgebert.measure.bench.models import BenchModel
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task
from edgebert.tasks.base import Row

BATCHES_AT_ONCE = 256
"""Tokenised together; more would only hold more of the data set in memory."""


def predict_all(session: Session, serving: Serving, data: PreparedData, target: Target, step: ProgressStep) -> list[int]:
    """One prediction for each example, in order.

    Raises:
        StageError: the model answers NaN or infinity.
    """
    predictions: list[int] = []
    tokenizer = serving.open_tokenizer()
    for rows in data.blocks(target.batch * BATCHES_AT_ONCE):
        for batch in serving.batches(serving.encode(tokenizer, rows), target):
            outputs = session.predict(batch)
            if not all(np.isfinite(value).all() for value in outputs.values()):
                raise StageError(
                    f"The model answers NaN or infinity on eval example {len(predictions) + 1}.",
                    hint="Quantised: try another method. FP32: the weights or the export are damaged.",
                )
            predictions += [int(value) for value in serving.task.predict(outputs)]
            step.advance(len(batch["input_ids"]))
    return predictions


def references(rows: Sequence[Row], bench_model: BenchModel) -> tuple[int, ...]:
    """The right label of each row, as its place among the bench_model's labels.

    Raises:
        InputError: the bench_model's labels are not known.
        DataError: a label is not one of them.
    """
    if bench_model.task is None or not bench_model.labels or bench_model.serving is None:
        hint = "--label needs a classifier with its config.json and its tokenizer; drop it to measure latency alone."
        raise InputError(f"{bench_model.name} does not say what its answers mean.", hint=hint)
    task = get_task(bench_model.task)
    places = []
    for number, row in enumerate(rows, start=1):
        place = task.label_index(row["label"], bench_model.labels)
        if place is None:
            known = ", ".join(bench_model.labels)
            raise DataError(
                f"Row {number} has the label {row['label']!r}; {bench_model.name} knows {known}.", hint="Correct the row."
            )
        places.append(place)
    return tuple(places)


def predict(
    bench_model: BenchModel, target: Target, rows: Sequence[Row], progress: Progress, *, whole_batches: bool = False
) -> tuple[int, ...]:
    """One prediction for each row, in order.

    Args:
        whole_batches: the last batch is filled up with its last text, for a graph that takes no other number.

    Raises:
        StageError: the model answers NaN or infinity.
    """
    serving = bench_model.serving
    assert serving is not None  # `references` saw to it
    found: list[int] = []
    encoded = serving.encode(serving.open_tokenizer(), rows)
    encoded += [encoded[-1]] * (-len(encoded) % target.batch if whole_batches else 0)
    with progress.step(f"predict with {bench_model.name}", len(rows)) as step, quiet_libraries():
        session = get_runtime(target.runtime).open(bench_model.model, target)
        for batch in serving.batches(encoded, target):
            outputs = session.predict(batch)
            if not all(np.isfinite(value).all() for value in outputs.values()):
                raise StageError(f"{bench_model.name} answers NaN or infinity, at row {len(found) + 1} at the latest.")
            found += [int(value) for value in serving.task.predict(outputs)]
            step.advance(len(batch["input_ids"]))
    return tuple(found[: len(rows)])
