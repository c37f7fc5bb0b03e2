"""Metrics of predictions, as data. They need no task, so that a report can compute its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.errors import InputError

Predictions = npt.NDArray[Any]


@dataclass(frozen=True)
class AnswerMetric:
    """One metric of predictions against references, both integers of shape (examples,). More is better."""

    name: str
    meaning: str
    score: Callable[[Predictions, Predictions], float]


def accuracy(predictions: Predictions, references: Predictions) -> float:
    """Share of the examples whose prediction is the reference."""
    return float(np.mean(predictions == references))


def macro_f1(predictions: Predictions, references: Predictions) -> float:
    """Mean over the labels that occur in either array of F1 = 2 TP / (2 TP + FP + FN)."""
    scores = []
    for label in np.union1d(predictions, references):
        hits = np.sum((predictions == label) & (references == label))
        scores.append(2 * hits / (np.sum(predictions == label) + np.sum(references == label)))
    return float(np.mean(scores))


ANSWER_METRICS = {
    metric.name: metric
    for metric in (
        AnswerMetric("accuracy", "share of eval examples predicted right", accuracy),
        AnswerMetric("macro_f1", "mean over labels of the F1 of each", macro_f1),
    )
}
"""Name -> metric."""
SCORED_BY = {"text-classification": ("accuracy", "macro_f1")}
"""Name of a task -> names of its metrics; the first decides where one has to."""


def metrics_of(task: str) -> tuple[str, ...]:
    """Names of the metrics of a task.

    Raises:
        InputError: there is no such task, as in a report that a newer edgebert wrote.
    """
    if task not in SCORED_BY:
        hint = f"Known: {', '.join(SCORED_BY)}. Update it: pip install --upgrade edgebert"
        raise InputError(f"This edgebert knows no task {task!r}.", hint=hint)
    return SCORED_BY[task]
