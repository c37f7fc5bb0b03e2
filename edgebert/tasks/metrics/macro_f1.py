"""macro_f1: the mean over labels of the F1 of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def label_pairs(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any]) -> Rows:
    """The number of the predicted and of the right label of each example, of shape (examples, 2).

    Labels are numbered in the model's order, the same for every model of a comparison, because rows are compared by them.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    pairs = zip(predictions, references, strict=True)
    return np.array([[numbers[one], numbers[other]] for one, other in pairs], dtype=np.float64).reshape(-1, 2)


MACRO_F1 = AnswerMetric(
    name="macro_f1",
    title="macro_f1",
    meaning="mean over labels of the F1 of each",
    of="label",
    reduction="macro_f1",
    statistics=label_pairs,
)
