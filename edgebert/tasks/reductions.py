"""Reductions: how the statistics of all examples become the value of a metric. Named, so that a report can state one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
"""Statistics of examples, of shape (examples, columns)."""


@dataclass(frozen=True)
class Reduction:
    """One way from statistics to a value."""

    name: str
    columns: int
    """Number of columns of the statistics."""
    of: Callable[[Rows], float]
    """Rows of shape (examples, columns), one or more of them -> value."""
    of_labels: bool = False
    """Whether the statistics number labels, from 0: whole numbers."""


def _mean(rows: Rows) -> float:
    return float(np.mean(rows))


def _ratio(rows: Rows) -> float:
    above, below = rows.sum(axis=0)
    return _divided(above, below)


def _f1(rows: Rows) -> float:
    hits, predicted, right = rows.sum(axis=0)
    return _divided(2 * hits, predicted + right)


def _divided(above: float, below: float) -> float:
    """above / below; 0 where both are 0, as of an F1 without a single prediction and a single right answer."""
    return float(above / below) if below else 0.0


def _macro_f1(rows: Rows) -> float:
    """Mean over the labels that occur of F1 = 2 TP / (2 TP + FP + FN)."""
    predicted, right = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    size = int(max(predicted.max(), right.max())) + 1
    hits = np.bincount(right[predicted == right], minlength=size)
    either = np.bincount(predicted, minlength=size) + np.bincount(right, minlength=size)
    occurring = either > 0
    return float(np.mean(2 * hits[occurring] / either[occurring]))


def _pearson(rows: Rows) -> float:
    """Linear correlation of the two columns; 0 where one of them does not vary, or only by what float64 rounds."""
    one, other = (column - column.mean() for column in rows.T)
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    scale = float(np.abs(rows).max()) ** 2 * len(rows)
    return float(np.clip(one @ other / size, -1.0, 1.0)) if size > 1e-15 * scale else 0.0


def _spearman(rows: Rows) -> float:
    """Linear correlation of the columns' ranks."""
    return _pearson(np.stack([_ranks(column) for column in rows.T], axis=1))


def _ranks(values: Rows) -> Rows:
    """Rank of each value from 1 on, the mean of their ranks for equal ones."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((2 * last - counts + 1) / 2)[group])


REDUCTIONS = {
    reduction.name: reduction
    for reduction in (
        Reduction("mean", 1, _mean),
        Reduction("ratio", 2, _ratio),
        Reduction("f1", 3, _f1),
        Reduction("macro_f1", 2, _macro_f1, of_labels=True),
        Reduction("pearson", 2, _pearson),
        Reduction("spearman", 2, _spearman),
    )
}
"""Name -> reduction. mean: of one column. ratio: the sum of the first over that of the second. f1: from the sums of hits, of
predictions and of right answers. macro_f1: from the number of the predicted and of the right label. pearson, spearman: the
correlation of two columns, of their values or of their ranks."""


def reduce_rows(name: str, rows: Rows) -> float:
    """The value of a reduction over rows of shape (examples, columns), one or more of them.

    Raises:
        KeyError: there is no reduction of that name.
    """
    return REDUCTIONS[name].of(rows)
