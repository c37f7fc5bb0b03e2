"""roc_auc: how well a label's probabilities tell the rows that have it from the others, whatever the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.metrics.label_sets import set_pairs
from edgebert.tasks.reductions import Rows


def score_pairs(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any]) -> Rows:
    """For each of the model's labels its probability and whether it is right, of shape (examples, 2 * labels)."""
    pairs = set_pairs(references, references, labels)
    pairs[:, 0::2] = np.array([item["probabilities"] for item in predictions]).reshape(len(pairs), len(labels))
    return pairs


ROC_AUC = AnswerMetric(
    name="roc_auc",
    title="roc_auc",
    meaning="area under the ROC curve, the mean over labels that some eval examples have and some lack",
    of="labels",
    reduction="roc_auc",
    statistics=score_pairs,
)
