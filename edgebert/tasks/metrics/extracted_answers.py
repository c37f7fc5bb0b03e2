"""exact_match, answer_f1: the metrics of answers to questions, as SQuAD's official scripts count them.

Texts are compared in small letters, without punctuation, the articles a, an and the, and surplus blanks (Rajpurkar et al. 2016,
arXiv 1606.05250). Of several right answers the one that suits the prediction best counts. No answer is an empty text, as in
SQuAD 2.0 (Rajpurkar et al. 2018, arXiv 1806.03822), and a right answer of articles and punctuation alone does not count.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows

ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain_answer(text: str) -> str:
    """A text as answers are compared."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def _same(prediction: str, right: str) -> float:
    return float(prediction == right)


def _shared(prediction: str, right: str) -> float:
    """F1 of the words of two plain answers; where one of them has none, whether both have none."""
    ours, theirs = prediction.split(), right.split()
    if not ours or not theirs:
        return float(ours == theirs)
    hits = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * hits / (len(ours) + len(theirs))


def _scores(predictions: Sequence[Any], references: Sequence[Any], score: Callable[[str, str], float]) -> Rows:
    rows = []
    for prediction, reference in zip(predictions, references, strict=True):
        right = [plain for text in reference if (plain := plain_answer(text))] or [""]
        given = plain_answer(prediction[0])
        rows.append([max(score(given, one) for one in right)])
    return np.array(rows, dtype=np.float64).reshape(-1, 1)


def exact_matches(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """1 for each example whose answer is one of the right ones, else 0; shape (examples, 1). The labels do not matter.

    Args:
        predictions: lists whose first text is the answer.
        references: lists of the right answers.
    """
    return _scores(predictions, references, _same)


def word_f1(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The F1 of the words of each example's answer and the right one; shape (examples, 1). Arguments as `exact_matches`."""
    return _scores(predictions, references, _shared)


EXACT_MATCH = AnswerMetric(
    name="exact_match",
    title="exact_match",
    meaning="share of eval questions with a right answer, as SQuAD counts: without case, punctuation and articles",
    of="answers",
    reduction="mean",
    statistics=exact_matches,
)
ANSWER_F1 = AnswerMetric(
    name="answer_f1",
    title="answer_f1",
    meaning="mean over eval questions of the F1 of the answer's words, as SQuAD counts",
    of="answers",
    reduction="mean",
    statistics=word_f1,
)
