"""mrr_at_10, ndcg_at_10: metrics of an order of passages, counted for each query as trec_eval and ir-measures count them.

A passage has a grade: 0 is not relevant, more is more relevant. Equal scores count as if the less relevant passage came first,
so that a model that gives every passage the same score gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows

CUT = 10
"""Passages that are looked at, from the first."""
Grades = npt.NDArray[np.float64]


def grades_in_order(scores: Sequence[float], grades: Sequence[float]) -> Grades:
    """The grades of a query's passages, the passage with the highest score first; shape (passages,).

    Raises:
        ValueError: there are more or fewer scores than grades.
    """
    if len(scores) != len(grades):
        raise ValueError(f"a query with {len(grades)} passages has {len(scores)} scores")
    values = np.asarray(grades, dtype=np.float64)
    return np.asarray(values[np.lexsort((values, -np.asarray(scores, dtype=np.float64)))])


def reciprocal_rank(ordered: Grades, cut: int = CUT) -> float:
    """1 / rank of the first relevant passage among the first `cut`; 0 where none of them is relevant.

    Args:
        ordered: grades of the passages, the first passage's first.
    """
    relevant = np.flatnonzero(ordered[:cut] > 0)
    return 1.0 / (int(relevant[0]) + 1) if len(relevant) else 0.0


def ndcg(ordered: Grades, grades: Sequence[float], cut: int = CUT) -> float:
    """The gain of the first `cut` passages, as a share of the best order's (Järvelin and Kekäläinen 2002): the sum of
    grade / log2(rank + 1). 0 where nothing is relevant.

    Args:
        ordered: grades of the passages, the first passage's first.
        grades: grades of all passages that the query has, in any order.
    """
    best = _gain(np.sort(np.asarray(grades, dtype=np.float64))[::-1], cut)
    return _gain(ordered, cut) / best if best else 0.0


def recall(ordered: Grades, grades: Sequence[float], cut: int = CUT) -> float:
    """The share of the relevant passages that is among the first `cut`; 0 where nothing is relevant. Arguments as `ndcg`."""
    relevant = int((np.asarray(grades, dtype=np.float64) > 0).sum())
    return float((ordered[:cut] > 0).sum()) / relevant if relevant else 0.0


def _gain(ordered: Grades, cut: int) -> float:
    first = np.maximum(ordered[:cut], 0.0)
    return float((first / np.log2(np.arange(2, len(first) + 2))).sum())


def of_queries(
    value: Callable[[Grades, Sequence[float]], float],
) -> Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Rows]:
    """Statistics of one value for each query, of shape (queries, 1).

    Args:
        value: (grades in the predicted order, grades) -> the query's value.

    Returns:
        A function of the predicted scores and the grades of each query's passages; the labels do not matter.
    """

    def statistics(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
        pairs = zip(predictions, references, strict=True)
        values = [[value(grades_in_order(scores, grades), grades)] for scores, grades in pairs]
        return np.array(values, dtype=np.float64).reshape(-1, 1)

    return statistics


MRR_AT_10 = AnswerMetric(
    name="mrr_at_10",
    title="mrr@10",
    meaning="1 / rank of the first relevant passage among the first 10, else 0; mean over eval queries",
    of="ranking",
    reduction="mean",
    statistics=of_queries(lambda ordered, grades: reciprocal_rank(ordered)),
)
NDCG_AT_10 = AnswerMetric(
    name="ndcg_at_10",
    title="ndcg@10",
    meaning="gain of the first 10 passages, grade / log2(rank + 1), as a share of the best order's; mean over eval queries",
    of="ranking",
    reduction="mean",
    statistics=of_queries(ndcg),
)
