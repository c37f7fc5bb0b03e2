"""accuracy: the share of the examples whose predicted label is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def equal(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """1 for each example whose prediction equals the reference, else 0; shape (examples, 1).

    The labels do not matter."""
    pairs = zip(predictions, references, strict=True)
    return np.array([[float(prediction == reference)] for prediction, reference in pairs]).reshape(-1, 1)


ACCURACY = AnswerMetric(
    name="accuracy",
    title="accuracy",
    meaning="share of eval examples predicted right",
    of=("label", "candidate"),
    reduction="mean",
    statistics=equal,
)
