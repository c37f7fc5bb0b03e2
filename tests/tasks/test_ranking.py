"""Metrics of an order of passages: equal to ir-measures, and what ties and queries without a relevant passage count."""

from __future__ import annotations

import numpy as np
import pytest

from edgebert.tasks.metrics.ranking import MRR_AT_10, NDCG_AT_10, grades_in_order, ndcg, recall, reciprocal_rank


def test_values_are_those_of_ir_measures() -> None:
    import ir_measures

    generator = np.random.default_rng(0)
    queries = [(generator.permutation(25) / 7, generator.integers(0, 4, 25) * (generator.random(25) < 0.2)) for _ in range(40)]
    run = {
        f"q{query}": {f"d{number}": float(score) for number, score in enumerate(scores)}
        for query, (scores, _) in enumerate(queries)
    }
    judged = {
        f"q{query}": {f"d{number}": int(grade) for number, grade in enumerate(grades)}
        for query, (_, grades) in enumerate(queries)
    }
    scores, grades = [list(scores) for scores, _ in queries], [list(map(float, grades)) for _, grades in queries]
    for measure, found in (
        (ir_measures.RR @ 10, MRR_AT_10.statistics(scores, grades, ())),
        (ir_measures.nDCG @ 10, NDCG_AT_10.statistics(scores, grades, ())),
        (
            ir_measures.R @ 10,
            np.array([[recall(grades_in_order(*pair), pair[1])] for pair in zip(scores, grades, strict=True)]),
        ),
    ):
        wanted = {item.query_id: item.value for item in ir_measures.iter_calc([measure], judged, run)}
        assert found[:, 0] == pytest.approx([wanted.get(f"q{query}", 0.0) for query in range(len(queries))])
        assert found.shape == (40, 1) and 0.05 < found.mean() < 0.95


def test_equal_scores_gain_nothing() -> None:
    assert grades_in_order([0.5, 0.5, 0.5], [2.0, 0.0, 1.0]).tolist() == [0.0, 1.0, 2.0]
    assert MRR_AT_10.statistics([[0.5] * 3], [[0.0, 1.0, 0.0]], ()).tolist() == [[1 / 3]]


def test_a_query_without_a_relevant_passage_counts_zero() -> None:
    ordered = grades_in_order([0.2, 0.9], [0.0, 0.0])
    assert (reciprocal_rank(ordered), ndcg(ordered, [0.0, 0.0]), recall(ordered, [0.0, 0.0])) == (0.0, 0.0, 0.0)


def test_only_the_first_ten_passages_count() -> None:
    ordered = grades_in_order(range(12, 0, -1), [0.0] * 10 + [1.0, 1.0])
    assert (reciprocal_rank(ordered), ndcg(ordered, list(ordered)), recall(ordered, list(ordered))) == (0.0, 0.0, 0.0)
    assert reciprocal_rank(ordered, cut=11) == 1 / 11


def test_scores_that_are_not_one_for_each_passage_are_refused() -> None:
    with pytest.raises(ValueError, match="a query with 2 passages has 1 scores"):
        grades_in_order([1.0], [0.0, 1.0])
