"""Reductions: each value is that of an independent computation, whatever the statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgebert.tasks.metrics import AGREEMENT, ANSWER_METRICS
from edgebert.tasks.reductions import REDUCTIONS, Rows, reduce_rows


def mean(rows: Rows) -> float:
    """The mean of the only column."""
    return math.fsum(rows[:, 0]) / len(rows)


def ratio(rows: Rows) -> float:
    """The first column's sum over the second's."""
    above, below = math.fsum(rows[:, 0]), math.fsum(rows[:, 1])
    return above / below if below else 0.0


def exp_ratio(rows: Rows) -> float:
    """e to the ratio, where that is a float64; e to the 700 for nothing to nothing."""
    return math.exp(min(ratio(rows), 700)) if rows[:, 1].any() else math.exp(700)


def f1(rows: Rows) -> float:
    """The harmonic mean of precision and recall, of the sums of hits, predictions and right answers."""
    hits, predicted, right = (math.fsum(column) for column in rows.T)
    if not hits:
        return 0.0
    precision, recall = hits / predicted, hits / right
    return 2 * precision * recall / (precision + recall)


def macro_f1(rows: Rows) -> float:
    """scikit-learn's mean of the F1 of each label that occurs."""
    from sklearn.metrics import f1_score

    return float(f1_score(rows[:, 1].astype(int), rows[:, 0].astype(int), average="macro", zero_division=0))


def macro_f1_of_sets(rows: Rows) -> float:
    """scikit-learn's mean of the F1 of each label that some row has."""
    from sklearn.metrics import f1_score

    scores = f1_score(rows[:, 1::2], rows[:, 0::2], average=None, zero_division=0)
    known = scores[rows[:, 1::2].any(axis=0)]
    return float(known.mean()) if len(known) else 0.0


def roc_auc(rows: Rows) -> float:
    """scikit-learn's mean over the labels that some rows have and some lack."""
    from sklearn.metrics import roc_auc_score

    pairs = [(rows[:, start + 1], rows[:, start]) for start in range(0, rows.shape[1], 2)]
    areas = [roc_auc_score(right, scores) for right, scores in pairs if 0 < right.sum() < len(right)]
    return float(np.mean(areas)) if areas else 0.5


def correlation(rows: Rows, of: str) -> float:
    """SciPy's mean over the pairs of columns, 0 for one that does not vary."""
    from scipy import stats

    found = []
    for start in range(0, rows.shape[1], 2):
        one, other = rows[:, start], rows[:, start + 1]
        varies = np.ptp(one) > 0 and np.ptp(other) > 0
        found.append(getattr(stats, of)(one, other).statistic if varies else 0.0)
    return float(np.mean(found))


INDEPENDENT: dict[str, Callable[[Rows], float]] = {
    "mean": mean,
    "ratio": ratio,
    "exp_ratio": exp_ratio,
    "f1": f1,
    "macro_f1": macro_f1,
    "macro_f1_of_sets": macro_f1_of_sets,
    "roc_auc": roc_auc,
    "pearson": lambda rows: correlation(rows, "pearsonr"),
    "spearman": lambda rows: correlation(rows, "spearmanr"),
}


def test_every_reduction_is_checked_here_and_every_metric_has_one() -> None:
    assert set(INDEPENDENT) == set(REDUCTIONS)
    assert {metric.reduction for metric in (*ANSWER_METRICS, AGREEMENT)} <= set(REDUCTIONS)
    assert all(name == reduction.name for name, reduction in REDUCTIONS.items())


def counts(columns: int) -> st.SearchStrategy[Rows]:
    """Small whole numbers, many of them zero."""
    return st.integers(1, 40).flatmap(
        lambda rows: hnp.arrays(np.float64, (rows, columns), elements=st.integers(0, 5).map(float))
    )


@st.composite
def hits(draw: Any) -> Rows:
    """Hits, predictions and right answers: no more hits than either."""
    rows = draw(counts(3))
    return np.stack([np.minimum.reduce(rows, axis=1), rows[:, 1], rows[:, 2]], axis=1)


def flags() -> st.SearchStrategy[Rows]:
    """0 and 1, for two or three labels (of one, scikit-learn scores both outcomes)."""
    return st.tuples(st.integers(1, 40), st.integers(2, 3)).flatmap(
        lambda shape: hnp.arrays(np.float64, (shape[0], 2 * shape[1]), elements=st.integers(0, 1).map(float))
    )


@st.composite
def scored(draw: Any) -> Rows:
    """A score with many ties, and 0 or 1, for two or three labels."""
    rows = draw(flags())
    few = hnp.arrays(np.float64, rows[:, 0::2].shape, elements=st.integers(0, 8).map(lambda value: value / 8))
    rows[:, 0::2] = draw(few)
    return rows


def numbers() -> st.SearchStrategy[Rows]:
    """Two columns, or four, of small whole numbers, many of them equal."""
    return st.one_of(counts(2), counts(4))


STATISTICS: dict[str, st.SearchStrategy[Rows]] = {
    "mean": hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(1)), elements=st.floats(-1e6, 1e6)),
    "ratio": counts(2),
    "exp_ratio": counts(2),
    "f1": hits(),
    "macro_f1": counts(2),
    "macro_f1_of_sets": flags(),
    "roc_auc": scored(),
    "pearson": numbers(),
    "spearman": numbers(),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data())
def test_a_reduction_is_that_of_an_independent_computation(name: str, data: st.DataObject) -> None:
    rows = data.draw(STATISTICS[name])
    assert reduce_rows(name, rows) == pytest.approx(INDEPENDENT[name](rows), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data())
def test_the_order_of_the_examples_does_not_matter(name: str, data: st.DataObject) -> None:
    rows = data.draw(STATISTICS[name])
    order = data.draw(st.permutations(range(len(rows))))
    assert reduce_rows(name, rows[order]) == pytest.approx(reduce_rows(name, rows), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["ratio", "f1"])
def test_nothing_found_of_nothing_is_zero(name: str) -> None:
    assert reduce_rows(name, np.zeros((3, REDUCTIONS[name].columns))) == 0.0


def test_a_reduction_that_there_is_not_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        reduce_rows("median", np.ones((1, 1)))
