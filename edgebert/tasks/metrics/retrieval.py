"""recall_at_10, ndcg_at_10 of a search: each question's passages among the passages of all eval rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.metrics.ranking import CUT, ndcg, recall
from edgebert.tasks.reductions import Rows
from edgebert.tasks.vectors import BLOCK, Matrix, kind_of, scores, unpacked

Hits = npt.NDArray[np.float64]
"""1 for a relevant passage, 0 for another, the nearest passage first."""


def hits_of(predictions: Sequence[Any], references: Sequence[Any]) -> Iterator[tuple[Hits, int]]:
    """For each row the relevance of the nearest CUT passages, and the number of relevant ones.

    Args:
        predictions: for each row the packed vectors of its question and of its passage.
        references: for each row the marks of both. A question that several rows have has as many relevant passages.
    """
    if not predictions:
        return
    questions = unpacked([row[0] for row in predictions])
    kind = kind_of(predictions[0][-1])
    marks = list(dict.fromkeys(passage for _, passage in references))
    first = {passage: index for index, (_, passage) in reversed(list(enumerate(references)))}
    passages = unpacked([predictions[first[mark]][-1] for mark in marks])
    at, relevant = {mark: index for index, mark in enumerate(marks)}, defaultdict[str, set[int]](set)
    for question, passage in references:
        relevant[question].add(at[passage])
    for start in range(0, len(questions), BLOCK):
        found = scores(questions[start : start + BLOCK], passages, kind)
        for of_question, (question, _) in zip(found, references[start : start + BLOCK], strict=True):
            yield _hits(of_question, relevant[question]), len(relevant[question])


def _hits(found: Matrix, relevant: set[int]) -> Hits:
    """The relevance of the first CUT passages by their scores; among equal ones the relevant come last."""
    right = np.isin(np.arange(len(found)), list(relevant))
    order = np.lexsort((right, -found))[:CUT]
    return right[order].astype(np.float64)


def _of_rows(value: Callable[[Hits, Sequence[float]], float]) -> Callable[..., Rows]:
    """Statistics of a value, of shape (rows, 2): each row's share of its question's value, and of its question. A question that
    several rows have counts once. The labels do not matter."""

    def statistics(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
        rows = Counter(question for question, _ in references)
        shares = [1 / rows[question] for question, _ in references]
        found = zip(hits_of(predictions, references), shares, strict=True)
        values = [[value(hits, [1.0] * count) * share, share] for (hits, count), share in found]
        return np.array(values, dtype=np.float64).reshape(-1, 2)

    return statistics


RECALL_AT_10 = AnswerMetric(
    name="recall_at_10",
    title="recall@10",
    meaning="share of a question's passages that are among the 10 nearest passages of the eval set; mean over questions",
    of="retrieval",
    reduction="ratio",
    statistics=_of_rows(recall),
)
SEARCH_NDCG_AT_10 = AnswerMetric(
    name="ndcg_at_10",
    title="ndcg@10",
    meaning="gain of the 10 nearest passages of the eval set, 1 / log2(rank + 1), as a share of the best order's; mean over "
    "questions",
    of="retrieval",
    reduction="ratio",
    statistics=_of_rows(ndcg),
)
