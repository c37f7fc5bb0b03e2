"""rouge1, rouge2, rougeL: the F1 of words, of pairs of words and of the longest common sequence (Lin 2004), by rouge-score.

Words are stemmed, as in published figures. The stemmer is Porter's, which needs no data.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.errors import MissingPackage
from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def _scores(name: str, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The F1 of each example's summary, of shape (examples, 1): the first texts of predictions and references."""
    pairs = list(zip(predictions, references, strict=True))
    scorer = _scorer(name) if pairs else None
    values = [[scorer.score(reference[0], prediction[0])[name].fmeasure] for prediction, reference in pairs if scorer]
    return np.array(values, dtype=np.float64).reshape(-1, 1)


def _scorer(name: str) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # it reads no data of nltk without `rougeLsum`
    except ImportError as error:
        raise MissingPackage("rouge-score", needed_for="Scoring summaries") from error
    return RougeScorer([name], use_stemmer=True)


def _metric(name: str, what: str) -> AnswerMetric:
    meaning = f"mean over eval documents of the F1 of {what}, summary against reference, by rouge-score"
    return AnswerMetric(name, name, meaning, of="summary", reduction="mean", statistics=functools.partial(_scores, name))


ROUGE_1 = _metric("rouge1", "words")
ROUGE_2 = _metric("rouge2", "pairs of words")
ROUGE_L = _metric("rougeL", "the longest common sequence of words")
