"""best_thresholds: from which probability on each label is given, chosen by F1 on labelled rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

USUAL = 0.5
"""Threshold of a label that no row has, or that every row has: nothing is known of it."""
SMALLEST = 1e-6
"""Distance that thresholds keep from 0 and 1."""
Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def best_thresholds(scores: Scores, right: Flags) -> list[float]:
    """The threshold of each label with the best F1, halfway between two probabilities that occur; of equal ones the nearest to
    0.5 (Lipton et al. 2014, arXiv 1402.1892).

    Args:
        scores: probabilities, shape (rows, labels).
        right: whether each row has each label, the same shape.
    """
    return [_best(column, flags) for column, flags in zip(scores.T, right.T, strict=True)]


def _best(scores: Scores, right: Flags) -> float:
    if right.all() or not right.any():
        return USUAL
    values = np.unique(scores)
    cuts = np.clip(np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2]), SMALLEST, 1 - SMALLEST)
    found = _f1(scores, right, np.append(cuts, USUAL))
    best = np.append(cuts, USUAL)[found >= found.max() - 1e-12]
    return float(best[np.abs(best - USUAL).argmin()])


def _f1(scores: Scores, right: Flags, cuts: Scores) -> Scores:
    """The F1 of each of some thresholds, of shape (cuts,), from counts in sorted order."""
    given = len(scores) - np.searchsorted(np.sort(scores), cuts)
    hits = right.sum() - np.searchsorted(np.sort(scores[right]), cuts)
    return np.asarray(2 * hits / (given + right.sum()))
