"""spearman, pearson, mae: metrics of predicted numbers, of which each row's statistics are the predicted and the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def number_pairs(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The predicted and the right number of each example, of shape (examples, 2), or (examples, 2 * numbers) where each has
    several. The labels do not matter."""
    given, right = (np.array(answers, dtype=np.float64) for answers in (predictions, references))
    width = given.shape[1] if given.ndim == 2 else 1
    return np.stack([given.reshape(-1, width), right.reshape(-1, width)], axis=2).reshape(-1, 2 * width)


def absolute_errors(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The distance of each prediction from the right number, of several the mean, of shape (examples, 1). The labels do not
    matter."""
    pairs = number_pairs(predictions, references)
    return np.asarray(np.abs(pairs[:, 0::2] - pairs[:, 1::2]).mean(axis=1, keepdims=True))


SPEARMAN = AnswerMetric(
    name="spearman",
    title="spearman",
    meaning="rank correlation of the predicted with the right numbers over all eval examples",
    of=("number", "similarity"),
    reduction="spearman",
    statistics=number_pairs,
)
PEARSON = AnswerMetric(
    name="pearson",
    title="pearson",
    meaning="linear correlation of the predicted with the right numbers over all eval examples",
    of=("number", "similarity"),
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
