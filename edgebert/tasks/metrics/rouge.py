"""rouge1, rouge2, rougeL: the F1 of words, of pairs of words and of the longest common sequence (Lin 2004), by rouge-score.

Words are stemmed, as in published figures. The stemmer is Porter's, which needs no data. rouge-score knows the letters a to z
alone; summaries in another script have the words of Unicode, and each ideograph or kana is one.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.errors import MissingPackage
from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows
from edgebert.tasks.words import plain_words


def _scores(name: str, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The F1 of each example's summary, of shape (examples, 1): the first texts of predictions and references."""
    values = [
        [_scorer(name, latin=is_latin(reference[0])).score(reference[0], prediction[0])[name].fmeasure]
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return np.array(values, dtype=np.float64).reshape(-1, 1)


def is_latin(text: str) -> bool:
    """Whether all letters of a text are Latin ones, with accents or without."""
    return not any(letter.isalpha() and "LATIN" not in unicodedata.name(letter, "") for letter in text)


class AnyScript:
    """Words of every script, as rouge-score asks for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text in lower case."""
        return [text[start:end].lower() for start, end in plain_words(text) if any(map(str.isalnum, text[start:end]))]


@functools.cache
def _scorer(name: str, *, latin: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # it reads no data of nltk without `rougeLsum`
    except ImportError as error:
        raise MissingPackage("rouge-score", needed_for="Scoring summaries") from error
    return RougeScorer([name], use_stemmer=True, tokenizer=None if latin else AnyScript())


def _metric(name: str, what: str) -> AnswerMetric:
    meaning = f"mean over eval documents of the F1 of {what}, summary against reference, by rouge-score"
    return AnswerMetric(name, name, meaning, of="summary", reduction="mean", statistics=functools.partial(_scores, name))


ROUGE_1 = _metric("rouge1", "words")
ROUGE_2 = _metric("rouge2", "pairs of words")
ROUGE_L = _metric("rougeL", "the longest common sequence of words")
