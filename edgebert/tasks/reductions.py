"""Reductions: how the statistics of all examples become the value of a metric. Named, so that a report can state one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
"""Statistics of examples, of shape (examples, columns)."""
MOST_LABELS = 100_000
"""More labels than any classifier has."""


@dataclass(frozen=True)
class Reduction:
    """One way from statistics to a value."""

    name: str
    columns: int
    """Number of columns of the statistics; where they repeat, of one repetition."""
    of: Callable[[Rows], float]
    """Rows of shape (examples, columns), one or more of them -> value."""
    of_labels: bool = False
    """Whether the statistics number labels, from 0: whole numbers."""
    repeats: bool = False
    """Whether the columns come once for each label, or for each number of a row; the value is then a mean over them."""

    def fits(self, columns: int) -> bool:
        """Whether statistics may have so many columns."""
        return columns == self.columns or (self.repeats and columns > 0 and columns % self.columns == 0)


def _mean(rows: Rows) -> float:
    return float(np.mean(rows))


def _ratio(rows: Rows) -> float:
    above, below = rows.sum(axis=0)
    return _divided(above, below)


def _exp_ratio(rows: Rows) -> float:
    """exp of the ratio, at most e^700: more is no float64. As much for nothing to nothing, which is no good answer."""
    above, below = rows.sum(axis=0)
    return float(np.exp(min(above / below, 700.0) if below else 700.0))


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


def _repeated(of: Callable[[Rows], float]) -> Callable[[Rows], float]:
    """The mean of a reduction of two columns over all pairs of neighbouring columns."""
    return lambda rows: float(np.mean([of(rows[:, start : start + 2]) for start in range(0, rows.shape[1], 2)]))


def _macro_f1_of_sets(rows: Rows) -> float:
    """Mean over the labels that some row has of the F1 of each; 0 where none does. Which labels count does not depend on what
    was predicted, so that models are compared over the same ones."""
    given, right = rows[:, 0::2], rows[:, 1::2]
    either, known = given.sum(axis=0) + right.sum(axis=0), right.sum(axis=0) > 0
    scores = 2 * (given * right).sum(axis=0)[known] / either[known]
    return float(scores.mean()) if len(scores) else 0.0


def _roc_auc(rows: Rows) -> float:
    """Mean over the labels of the area under each ROC curve (Mann and Whitney's U over the number of pairs, equal scores half);
    a label that all rows have or none has does not count, and 0.5, as of a coin, where no label counts."""
    areas = [_area(rows[:, start], rows[:, start + 1] > 0) for start in range(0, rows.shape[1], 2)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else 0.5


def _area(scores: Rows, right: npt.NDArray[np.bool_]) -> float | None:
    have = int(right.sum())
    pairs = have * (len(right) - have)
    return float((_ranks(scores)[right].sum() - have * (have + 1) / 2) / pairs) if pairs else None


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
        Reduction("exp_ratio", 2, _exp_ratio),
        Reduction("f1", 3, _f1),
        Reduction("macro_f1", 2, _macro_f1, of_labels=True),
        Reduction("macro_f1_of_sets", 2, _macro_f1_of_sets, repeats=True),
        Reduction("roc_auc", 2, _roc_auc, repeats=True),
        Reduction("pearson", 2, _repeated(_pearson), repeats=True),
        Reduction("spearman", 2, _repeated(_spearman), repeats=True),
    )
}
"""Name -> reduction. mean: of one column. ratio: the sum of the first over that of the second. exp_ratio: exp of that. f1: from
the sums of hits, of predictions and of right answers. macro_f1: from the number of the predicted and of the right label.
macro_f1_of_sets: from whether each label was given and is right, 0 or 1. roc_auc: from the score of each label and whether it
is right. pearson, spearman: the correlation of two columns, of their values or of their ranks, a mean over pairs of columns."""


def number_labels(rows: Rows) -> bool:
    """Whether these are whole numbers from 0 to MOST_LABELS; larger ones would fill the memory when they are counted."""
    return bool(((rows >= 0) & (rows < MOST_LABELS) & (rows == np.floor(rows))).all())


def reduce_rows(name: str, rows: Rows) -> float:
    """The value of a reduction over rows of shape (examples, columns), one or more of them.

    Raises:
        KeyError: there is no reduction of that name.
    """
    return REDUCTIONS[name].of(rows)
