"""The one scoring loop: a model's outputs and predictions for rows of text, at the batch and padding that it is deployed with.

Everything that scores uses it: check, bench, the trials of a search, quantisation methods that score while they work, and
pruning. A model is a function from a batch to named outputs, whatever runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgebert.core.progress import ProgressStep
from edgebert.errors import StageError
from edgebert.report.entry import Entry
from edgebert.report.report import baseline_among
from edgebert.report.row_statistics import RowStatistics
from edgebert.runtimes.base import Array
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch, Encoded, Outputs, Row, Task, split_outputs
from edgebert.tasks.metrics import AGREEMENT

BATCHES_AT_ONCE = 256
"""Batches tokenised together; more would only hold more of the data set in memory."""
Predict = Callable[[Batch], Mapping[str, Array]]
"""A batch as `Session.predict` takes it -> output name -> array of shape (batch, ...)."""


def outputs_of(
    predict: Predict, serving: Serving, encoded: Sequence[Encoded], target: Target, *, whole_batches: bool = False
) -> Iterator[Outputs]:
    """The outputs of each window, in order, without padding.

    Args:
        whole_batches: fill the last batch up with its last window, for a graph that takes no other number.
    """
    for start in range(0, len(encoded), target.batch):
        part = list(encoded[start : start + target.batch])
        filling = part[-1:] * (target.batch - len(part)) if whole_batches else []
        yield from split_outputs(serving.task, predict(serving.batch([*part, *filling], target)), part)


def predict_rows(
    predict: Predict,
    serving: Serving,
    blocks: Iterable[Sequence[Row]],
    target: Target,
    step: ProgressStep | None = None,
    *,
    name: str,
    whole_batches: bool = False,
) -> list[Any]:
    """One prediction for each row, in order, as JSON values.

    Args:
        blocks: the rows, `target.batch * BATCHES_AT_ONCE` of them in each block but the last.
        name: the model's name, for messages.
        whole_batches: see `outputs_of`.

    Raises:
        StageError: the model answers NaN or infinity.
    """
    predictions: list[Any] = []
    tokenizer = serving.open_tokenizer()
    for rows in blocks:
        encoded = serving.encode(tokenizer, rows)
        outputs: list[Outputs] = []
        for item, found in zip(
            encoded, outputs_of(predict, serving, encoded, target, whole_batches=whole_batches), strict=True
        ):
            _check_finite(found, name, len(predictions) + item.row)
            outputs.append(found)
            if step and (len(outputs) == len(encoded) or encoded[len(outputs)].row != item.row):
                step.advance()
        predictions += serving.task.decode(outputs, encoded, rows, serving.labels)
    return predictions


def statistics_of(
    task: Task, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any]
) -> dict[str, RowStatistics]:
    """Name of each of the task's metrics -> the statistics of each example, for a model with these labels."""
    return {
        metric.name: RowStatistics.of(metric.reduction, metric.statistics(predictions, references, labels))
        for metric in task.metrics
    }


def agreement_of(task: Task, predictions: Sequence[Any], fp32: Sequence[Any]) -> RowStatistics:
    """The statistics of agreement with FP32: 1 for each example on which the task takes both predictions for the same."""
    pairs = zip(predictions, fp32, strict=True)
    same = np.array([[float(task.agrees(prediction, other))] for prediction, other in pairs]).reshape(-1, 1)
    return RowStatistics.of(AGREEMENT.reduction, same)


def with_agreement(task: Task, entries: Sequence[Entry], predictions: Sequence[Sequence[Any]]) -> tuple[Entry, ...]:
    """Entries with the statistics of their agreement with FP32 on their target, where there is one.

    Args:
        predictions: those of each entry; empty where it was not scored.
    """
    of = {id(entry): own for entry, own in zip(entries, predictions, strict=True)}
    agreeing = []
    for entry in entries:
        baseline = baseline_among(entries, entry)
        own, fp32 = of[id(entry)], of[id(baseline)] if baseline else ()
        added = {AGREEMENT.name: agreement_of(task, own, fp32)} if own and fp32 else {}
        agreeing.append(entry.model_copy(update={"statistics": {**entry.statistics, **added}}))
    return tuple(agreeing)


def former_predictions(predictions: Sequence[Any], labels: Sequence[str]) -> list[Any]:
    """Predictions that may be kept from version 0.1, which numbered the labels: then their names."""
    return [labels[value] if type(value) is int else value for value in predictions]


def _check_finite(outputs: Outputs, name: str, row: int) -> None:
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise StageError(
            f"{name} answers NaN or infinity, first on row {row + 1} of the data.",
            hint="Quantised: try another method. FP32: the weights or the export are damaged.",
        )
