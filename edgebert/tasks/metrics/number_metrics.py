"""spearman, pearson, mae: metrics of predicted numbers, of which each row's statistics are the predicted and the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def number_pairs(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The predicted and the right number of each example, of shape (examples, 2). The labels do not matter."""
    return np.array(list(zip(predictions, references, strict=True)), dtype=np.float64).reshape(-1, 2)


def absolute_errors(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The distance of each prediction from the right number, of shape (examples, 1). The labels do not matter."""
    pairs = number_pairs(predictions, references)
    return np.abs(pairs[:, :1] - pairs[:, 1:])


SPEARMAN = AnswerMetric(
    name="spearman",
    title="spearman",
    meaning="rank correlation of the predicted with the right numbers over all eval examples",
    of="number",
    reduction="spearman",
    statistics=number_pairs,
)
PEARSON = AnswerMetric(
    name="pearson",
    title="pearson",
    meaning="linear correlation of the predicted with the right numbers over all eval examples",
    of="number",
    reduction="pearson",
    statistics=number_pairs,
)
MAE = AnswerMetric(
    name="mae",
    title="mae",
    meaning="mean distance of the predicted from the right numbers; less is better",
    of="number",
    reduction="mean",
    statistics=absolute_errors,
    less_is_better=True,
)
